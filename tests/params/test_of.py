"""A method that is `of` another one: that one works on the backbone and is of none itself."""

import pytest

from stages.params.check import check_method_on
from tests import ROOT

PARAMS = ROOT / "params"


def test_the_method_within_works_on_the_family() -> None:
    check_method_on("random_weights", "sd-shapes", PARAMS)
    with pytest.raises(ValueError, match="random_weights@of=s_vare: of: s_vare works on infinity; sd-shapes is of"):
        check_method_on("random_weights@of=s_vare", "sd-shapes", PARAMS)


@pytest.mark.parametrize("of", ["random_weights", "random_direction"])
def test_the_method_within_is_of_no_other(of: str) -> None:
    with pytest.raises(ValueError, match=f"of: {of} is of another method itself; name that one"):
        check_method_on(f"random_weights@of={of}", "sd-shapes", PARAMS)
