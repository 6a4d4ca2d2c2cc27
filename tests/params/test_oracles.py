"""Which backbone is the oracle of a concept: the twin that its file names, if its training left the concept out."""

import pytest
import yaml

from stages.params.check import check_backbone
from stages.params.concept import load_concept
from stages.params.load import load_params
from stages.params.oracles import never_shown, twin
from stages.params.protocol import load_protocol
from tests import ROOT

FLAGSHIPS = ("sd", "flux", "infinity", "cogvideox")


@pytest.mark.parametrize("family", FLAGSHIPS)
def test_every_flagship_of_scenes_names_an_oracle_of_what_is_reported(family):
    about = load_params("backbones", f"{family}-scenes-1", ROOT / "params")
    assert about["oracle"] == f"{family}-scenes-withheld"
    shown = never_shown(load_params("backbones", about["oracle"], ROOT / "params"))
    report = set(load_protocol(ROOT / "params").concepts.report)
    assert set(shown) == (report - {"mosaic"} if family == "cogvideox" else report)  # clips have one style


@pytest.mark.parametrize(
    ("backbone", "concept", "found"),
    [("sd-scenes", "star", "sd-scenes-withheld"), ("sd-scenes", "purple", None), ("sd-shapes", "red", None)],
)
def test_the_twin_serves_the_concepts_that_it_was_never_shown(backbone, concept, found):
    oracle = load_params("backbones", backbone, ROOT / "params").get("oracle")
    assert twin(oracle, load_concept(concept, ROOT / "params"), ROOT / "params") == found


@pytest.mark.parametrize(
    ("oracle", "says"),
    [
        ("sd-scenes-withhold", "oracle: no backbone 'sd-scenes-withhold'; did you mean sd-scenes-withheld?"),
        ("sd-withheld", "oracle: sd-withheld has another world"),
        ("flux-scenes-withheld", "oracle: flux-scenes-withheld has another class"),
        ("sd-scenes-1", "oracle: sd-scenes-1 was shown everything"),
    ],
)
def test_an_oracle_that_is_no_twin_is_refused(params, oracle, says):
    path = params / "backbones" / "sd-scenes.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"oracle": oracle}))
    with pytest.raises(ValueError, match=says):
        check_backbone("sd-scenes", params)
