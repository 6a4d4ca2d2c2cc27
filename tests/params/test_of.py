"""A method that is `of` another one: all that is known of that one is checked before anything runs."""

import shutil
from pathlib import Path

import pytest
import yaml

from stages.params import load_params
from stages.params.check import check_concept
from stages.params.learning import Measured, check_data
from stages.params.study import fitting
from stages.params.within import check_within, referred
from tests import ROOT

PARAMS = ROOT / "params"


@pytest.fixture
def params(tmp_path: Path) -> Path:
    """A copy of params/ and data/."""
    for part in ("params", "data"):
        shutil.copytree(ROOT / part, tmp_path / part)
    return tmp_path / "params"


def write(params: Path, name: str, **content: object) -> None:
    (params / "methods" / f"{name}.yaml").write_text(yaml.safe_dump(content))


def test_the_method_within_works_on_the_family() -> None:
    check_within("random_weights", "sd-shapes", PARAMS)
    with pytest.raises(ValueError, match="random_weights@of=s_vare: of: s_vare works on infinity; sd-shapes is of"):
        check_within("random_weights@of=s_vare", "sd-shapes", PARAMS)


@pytest.mark.parametrize("of", ["random_weights", "random_direction"])
def test_the_method_within_is_of_no_other(of: str) -> None:
    with pytest.raises(ValueError, match=f"of: {of} is of another method itself; name that one"):
        check_within(f"random_weights@of={of}", "sd-shapes", PARAMS)


@pytest.mark.parametrize(
    ("method", "backbone", "says"),
    [
        ("random_weights@of=mean_difference", "sd-shapes", "mean_difference makes a Steering, and a Weights is needed"),
        ("random_direction@of=uce", "sd-shapes", "of: uce makes a Weights, and a Steering is needed"),
        ("minimalist_binary@of=esd", "sd-shapes", "of: esd makes a Weights, and a Mask is needed"),
        ("random_weights@of=uce", "sd14", "of: uce has settings for the small worlds"),
        ("random_weights@of=uces", "sd-shapes", "of: no method 'uces'; did you mean uce?"),
        ("random_weights_paper@of=esd_u_paper", "flux-dev", "of: esd_u_paper cannot work on flux-dev: "),
    ],
)
def test_the_method_within_is_of_the_kind_that_is_needed_and_can_work_there(method, backbone, says) -> None:
    with pytest.raises(ValueError) as caught:
        check_within(method, backbone, PARAMS)
    assert says in str(caught.value)


def test_the_fields_of_the_method_within_are_checked(params: Path) -> None:
    write(params, "wrong", like="uce", **{"class": "stages.methods.uce.UCE"}, ridge=-1.0)
    with pytest.raises(
        ValueError, match=r"random_weights@of=wrong: of: params/methods/wrong.yaml: ridge: Input should"
    ):
        check_within("random_weights@of=wrong", "sd-shapes", params)


def test_an_edit_that_is_not_asked_for_is_none_within() -> None:
    content = load_params("methods", "minimalist", PARAMS)
    assert list(referred(content | {"target": "neutral"}, PARAMS)) == []
    assert list(referred(content | {"target": "flowedit", "edit": "flowedit_paper"}, PARAMS)) == [
        ("edit", "flowedit_paper")
    ]


def test_the_tables_of_the_method_within_are_checked(params: Path) -> None:
    concept = check_concept("red", ["concept"], params)
    write(params, "lost", like="uce", data="data/none/{concept}.csv")
    measured = Measured.of(concept, ["concept"], params)
    with pytest.raises(ValueError, match="random_weights@of=lost: of: .*lost.yaml: data: for the concept red: no file"):
        check_data("random_weights@of=lost", "sd-shapes", concept, measured, params)
    (params.parent / "data/mine.csv").write_text("prompt,normal prompt\na drawing of a red circle,a circle\n")
    write(params, "same", like="uce", data="data/mine.csv")
    with pytest.raises(ValueError, match="of: .*same.yaml: data: data/mine.csv: 'a drawing of a red circle': measured"):
        check_data("random_weights@of=same", "sd-shapes", concept, measured, params)


def test_all_leaves_out_what_is_of_a_method_without_a_table(params: Path) -> None:
    write(params, "lost", like="uce", data="data/none/{concept}.csv")
    write(params, "of_lost", like="random_weights", of="lost")
    assert {"lost", "of_lost"}.isdisjoint(fitting("sd-shapes", "red", params))
    write(params, "of_uce", like="random_weights", of="uce")
    assert "of_uce" in fitting("sd-shapes", "red", params)
