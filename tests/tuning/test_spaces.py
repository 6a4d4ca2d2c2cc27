"""The search spaces of params/tuning: one for every method, valid on every architecture, none with more trials."""

import pytest
import yaml

from stages.params import load_params, names
from stages.params.check import check_fields
from stages.params.check_methods import works_on
from stages.params.effect import check_effect
from stages.params.protocol import load_protocol
from stages.tuning.log import with_effect
from stages.tuning.space import MOST, Space, architecture_of, load_space, own_fields, searched
from tests import ROOT

PARAMS = ROOT / "params"
OTHERS = ("_released", "_documented", "_fast", "_many")  # settings that somebody else's text or code fixes
SPACES = names("tuning", PARAMS)
SMALL = {
    architecture_of(about): name
    for name in names("backbones", PARAMS)
    if (about := load_params("backbones", name, PARAMS)).get("world")
}


def test_every_method_says_what_is_searched_of_it_or_why_nothing_is():
    assert set(SPACES) == {name for name in names("methods", PARAMS) if not name.endswith(OTHERS)}


def test_no_method_has_more_trials_than_another():
    """Their number is one key of the protocol: a space has no field for it, and no more dimensions than another may."""
    assert "trials" not in Space.model_fields
    assert all(len(load_space(name, PARAMS).search) <= MOST for name in SPACES)


@pytest.mark.parametrize("name", [name for name in SPACES if not load_space(name, PARAMS).nothing])
def test_every_value_of_a_space_is_taken_on_every_architecture(name):
    own, tried = load_params("methods", name, PARAMS), 0
    for architecture, backbone in SMALL.items():
        family = load_params("backbones", backbone, PARAMS)["family"]
        if works_on(own, family):
            found = searched(name, backbone, PARAMS)
            assert found.architecture == architecture and set(found.first) == set(found.space.search)
            row = with_effect(name, {**found.space.fixed, **found.first})  # as it is written, and then read
            check_fields(row, own["class"], name, PARAMS, whole=False)
            check_effect(own["class"], {**own_fields(name, PARAMS), **row}, row, name, family=family)
            tried += 1
    assert tried


def test_a_first_value_is_the_methods_own_or_said():
    assert searched("uce", SMALL["sd"], PARAMS).first["ridge"] == 0.5


@pytest.mark.parametrize("path", sorted((PARAMS / "tuned").glob("*.yaml")), ids=lambda path: path.stem)
def test_no_tuned_setting_was_chosen_on_a_reported_concept_or_backbone(path):
    protocol = load_protocol(PARAMS)
    for line in [line for line in path.read_text().splitlines() if line.startswith("# ") and ": tuned on " in line]:
        concepts, _, backbone = line.partition(": tuned on ")[2].partition(", protocol")[0].partition(" with ")
        assert not set(concepts.split(", ")) & set(map(str, protocol.concepts.report)), line
        assert load_params("backbones", backbone, PARAMS).get("trained", 0) not in protocol.backbone_seeds.report, line
    assert isinstance(yaml.safe_load(path.read_text()), dict)
