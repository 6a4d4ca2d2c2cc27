"""The tuning side: rows to tune on alone, noise of its own, retained prompts apart, chance as declared."""

import shutil
from dataclasses import replace

import pytest

from stages.params.concept import load_concept
from stages.params.datasets import read_prompts
from stages.params.protocol import load_protocol
from stages.seeds import GIVEN, Purpose
from stages.tuning.side import PICTURES, chance_of, fits, of_kind, searchable, searches, tuning_concept, tuning_sets
from stages.tuning.space import searched
from tests import ROOT

PARAMS = ROOT / "params"
PROTOCOL = load_protocol(PARAMS)
UCE = searched("uce", "sd-shapes", PARAMS)
CONCEPTS = sorted({name for side in PROTOCOL.searches.values() for name in side.concepts})


@pytest.mark.parametrize("name", CONCEPTS)
def test_rows_and_noise_are_the_tuning_sides(name):
    concept = load_concept(name, PARAMS)
    table = read_prompts(ROOT / concept.dataset)
    tuned = set(table[table["split"] == "tune"]["prompt"]) | {
        prompt
        for column in table.columns
        if column.startswith("without_")
        for prompt in table[table["split"] == "tune"][column]
    }
    sets = tuning_sets(concept)
    assert {"concept", "neutral", "seen"} <= set(sets)
    for which, rows in sets.items():
        assert len(rows) == PICTURES[which] and {row["prompt"] for row in rows} <= tuned, which
        assert {row["seed"] // GIVEN for row in rows} == {Purpose.TUNING}
        assert len({(row["prompt"], row["seed"]) for row in rows}) == len(rows)


def test_retained_prompts_are_seen_near_or_far():
    red = replace(
        load_concept("red", PARAMS),
        prompts=("a red circle",),
        neutral=("a circle",),
        retain=("a green circle", "a blue square"),
    )
    sets = tuning_sets(red)
    shown = {which: {(row["colour"], row["shape"]) for row in sets[which]} for which in ("seen", "near", "far")}
    assert shown["seen"] == {("green", "circle"), ("blue", "square")}  # in other words than the methods are told
    assert shown["near"] == {("blue", "circle"), ("yellow", "circle")}  # a circle, as what is erased
    assert len(shown["far"]) == 8 and not any("circle" in one for one in shown["far"])


def test_chance_is_the_protocols_for_the_labels_of_a_world():
    red = load_concept("red", PARAMS)
    assert chance_of(red, "shapes", PROTOCOL) == PROTOCOL.chance["shapes"]["colour"]
    assert chance_of(red, "", PROTOCOL) is None


@pytest.mark.parametrize("name", PROTOCOL.concepts.report)
def test_a_concept_to_report_is_refused(name):
    with pytest.raises(ValueError, match=f"{name} is a concept to report; tune on one of"):
        tuning_concept(name, UCE, "sd-shapes", PARAMS)


def test_a_concept_to_learn_is_refused():
    with pytest.raises(ValueError, match="yellow_cross"):
        tuning_concept("yellow_cross", UCE, "sd-withheld", PARAMS)


def test_the_protocol_searches_on_concepts_and_backbones_to_tune_on():
    for side in PROTOCOL.searches.values():
        assert set(side.concepts) <= set(PROTOCOL.concepts.tune)
        for name in side.concepts:
            assert tuning_concept(name, UCE, side.backbone, PARAMS).name == name


def test_every_search_is_checked_before_any_runs():
    found = searches(PROTOCOL, root=PARAMS)
    assert {method for method, *_ in found} <= set(searchable(PARAMS)) and len(found) == len(set(found))
    assert ("uce", PROTOCOL.searches["sd"].backbone, "") in found
    assert ("flowedit", PROTOCOL.searches["sd"].backbone, "") not in found  # which is for flows
    assert not fits("flowedit", PROTOCOL.searches["sd"].backbone, (), PARAMS)
    with pytest.raises(ValueError, match="nothing is searched of oracle: it is a model that never saw the concept"):
        searches(PROTOCOL, ["oracle"], PARAMS)


def test_a_space_that_names_kinds_is_searched_for_each_that_has_concepts(tmp_path):
    """`red` is an attribute and `circle` an object; no concept to search on is a style."""
    root = tmp_path / "params"
    shutil.copytree(PARAMS, root)
    (root / "tuning/uce.yaml").write_text("kinds: [attribute, object, style]\nsearch: {ridge: {log: [0.1, 1.0]}}\n")
    backbone = PROTOCOL.searches["sd"].backbone
    found = [one for one in searches(PROTOCOL, ["uce"], root) if one[1] == backbone]
    assert found == [("uce", backbone, "attribute"), ("uce", backbone, "object")]
    assert of_kind(("red", "circle"), "object", root) == ["circle"] and of_kind(("red",), "", root) == ["red"]
    (root / "tuning/uce.yaml").write_text("kinds: [colour]\nsearch: {ridge: {log: [0.1, 1.0]}}\n")
    with pytest.raises(ValueError, match="tuning/uce.yaml: kinds.0: .* got 'colour'"):
        searches(PROTOCOL, ["uce"], root)
