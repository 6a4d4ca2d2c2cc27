"""Bars that chance cannot reach, and verdicts that follow from bounds."""

from dataclasses import replace

import pytest

from stages.params.protocol import chance_of, load_protocol
from stages.reporting.bars import ERASED, FLOOR, KEPT, LEARNED, OPEN, corrected, goal, kept, reached, verdict
from stages.reporting.leaders import ASKED, reaching
from stages.reporting.notes import bar
from stages.reporting.numbers import Number
from tests import ROOT
from tests.reporting.test_findings import CELL, study_of

CHANCE = replace(CELL, chance=0.25)
SEEN, CHANGE = ("concept", "target_rate"), ("retain", "joint_rate_change")


def test_the_bars_are_those_of_the_protocol():
    protocol = load_protocol(ROOT / "params")
    assert (
        protocol.erased,
        protocol.kept_margin,
        protocol.shown,
        protocol.learned,
    ) == (ERASED, KEPT, FLOOR, LEARNED)
    assert protocol.rest_margin == ASKED and protocol.confidence == 0.95
    assert chance_of({"colour": "red", "shape": "circle"}, protocol.chance["shapes"]) == 1 / 16
    assert chance_of({"colour": "red"}, {}) is None


def with_rate(numbers, cell, name, value, low, high):
    return numbers | {(cell, name, *SEEN): Number(value, low, high, 96)}


def test_a_method_that_merely_ignores_the_word_is_not_erased():
    """Before, a point of at most 25 % was enough, which is what chance gives in a world of four colours."""
    study, numbers = study_of((CHANCE,), none=(0.98, 0.97), esd=(0.24, 0.97))
    numbers = with_rate(numbers, CHANCE, "esd", 0.24, 0.16, 0.34)
    assert goal(numbers, CHANCE) == 0.25 and reached(numbers, CHANCE, "esd") == OPEN
    assert reaching(study, numbers, CHANCE) == [] and verdict(numbers, CHANCE, "esd") == "erasing open, rest kept"
    assert reached(with_rate(numbers, CHANCE, "esd", 0.1, 0.05, 0.2), CHANCE, "esd") == "erased"
    assert reached(with_rate(numbers, CHANCE, "esd", 0.5, 0.4, 0.6), CHANCE, "esd") == "not erased"


def test_the_note_names_the_bar_that_holds():
    _, numbers = study_of((CHANCE,), none=(0.98, 0.97), esd=(0.24, 0.97))
    assert "at most chance, 25%, for want of an oracle" in bar(numbers, CHANCE)
    _, numbers = study_of((CHANCE,), none=(0.2, 0.97), esd=(0.1, 0.97))
    assert "at most half of what the unedited model shows, 10%, for want of an oracle" in bar(numbers, CHANCE)


def test_an_oracle_takes_the_place_of_chance():
    _, numbers = study_of((CHANCE,), none=(0.96, 0.97), esd=(0.1, 0.97), oracle=(0.04, 0.97))
    assert goal(numbers, CHANCE) == pytest.approx(0.04 + ERASED * 0.92)
    left = corrected(numbers, CHANCE, "esd")
    assert left.value == pytest.approx(0.06 / 0.92) and left.low < left.value < left.high
    assert reached(numbers, CHANCE, "esd") == "erased"


@pytest.mark.parametrize("name", ["none", "oracle"])
def test_the_oracle_leaves_nothing_and_the_unedited_model_all(name):
    _, numbers = study_of(none=(0.96, 0.97), oracle=(0.04, 0.97))
    left = corrected(numbers, CELL, name)
    assert left.value == pytest.approx(float(name == "none")) and left.low < left.value < left.high


def test_what_the_bounds_of_the_references_leave_open_is_open():
    _, sure = study_of(none=(0.96, 0.97), esd=(0.2, 0.97), oracle=(0.04, 0.97))
    loose = sure | {(CELL, "oracle", *SEEN): Number(0.04, 0.0, 0.25, 24)}
    spans = [corrected(numbers, CELL, "esd") for numbers in (sure, loose)]
    assert spans[1].low < spans[0].low - 0.05 and spans[1].high == pytest.approx(spans[0].high, abs=0.03)
    few = with_rate(sure, CELL, "esd", 0.2, 0.15, 0.3)
    assert reached(few, CELL, "esd") == OPEN and reached(sure, CELL, "esd") == "erased"


def test_an_oracle_that_shows_the_concept_as_often_corrects_nothing():
    _, numbers = study_of(none=(0.5, 0.97), esd=(0.2, 0.97), oracle=(0.5, 0.97))
    assert corrected(numbers, CELL, "esd") is None


@pytest.mark.parametrize(
    ("low", "high", "word"), [(-0.04, 0.01, "kept"), (-0.06, 0.02, OPEN), (-0.3, -0.06, "lost"), (-KEPT, 0, "kept")]
)
def test_kept_is_shown_by_the_bound_of_the_paired_change(low, high, word):
    """Before, a point within the margin was enough, whatever its interval."""
    _, numbers = study_of(none=(0.98, 0.97), esd=(0.02, 0.95))
    numbers[(CELL, "esd", *CHANGE)] = Number(-0.02, low, high, 192)
    assert kept(numbers, CELL, "esd") == word
    assert verdict(numbers, CELL, "esd") == f"erased, rest {word}"


@pytest.mark.parametrize(
    ("near", "far", "word"),
    [(-0.01, -0.01, "kept"), (-0.03, -0.01, OPEN), (-0.2, 0.0, "lost"), (0.0, -0.2, "lost"), (None, -0.01, "kept")],
)
def test_kept_asks_for_what_is_near_and_for_what_is_far(near, far, word):
    """Before, prompts far from the concept, and those that methods are told to keep, hid what near ones lost."""
    _, numbers = study_of(none=(0.98, 0.97), esd=(0.02, 0.95))
    numbers[(CELL, "esd", *CHANGE)] = Number(0.0, -0.02, 0.01, 192)
    for relation, change in {"near": near, "far": far}.items():
        if change is not None:
            numbers[(CELL, "esd", "retain", f"joint_{relation}_rate")] = Number(0.9, 0.87, 0.93, 64)
            change = Number(change, change - 0.03, change + 0.03, 64)
            numbers[(CELL, "esd", "retain", f"joint_{relation}_rate_change")] = change
    assert kept(numbers, CELL, "esd") == word
    assert ("those near the concept and those far from it each" in bar(numbers, CELL)) == (near is not None)


def test_what_methods_were_told_to_keep_does_not_count_beside_what_is_held_out():
    _, numbers = study_of(none=(0.98, 0.97), esd=(0.02, 0.95))
    numbers |= {(CELL, name, "retain", "joint_near_rate"): Number(0.5, 0.45, 0.55, 64) for name in ("none", "esd")}
    numbers[(CELL, "none", "retain", "joint_near_rate")] = Number(0.9, 0.85, 0.95, 64)
    assert kept(numbers, CELL, "esd") == "lost"


def test_without_numbers_nothing_is_said():
    _, numbers = study_of(none=(0.05, 0.97), esd=(0.02, 0.95))
    assert verdict(numbers, CELL, "esd") == "" and reached(numbers, CELL, "uce") == "" and kept({}, CELL, "esd") == ""
