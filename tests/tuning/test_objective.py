"""The objective against hand values: every part a rate, the trivial edits where they belong."""

import pytest

from stages.tuning import objective
from stages.tuning.objective import LEAST, RETAINED, beyond

UNEDITED = {"concept": 1.0, "synonym": 0.9, "seen": 0.95, "near": 0.9, "far": 1.0}
FLOOR = {"concept": 0.25, "synonym": 0.25}
MARGIN = 0.05


def score(edited, unedited, floor):
    return objective.score(edited, unedited, floor, MARGIN)


def test_the_unedited_model_scores_nothing():
    found = score(UNEDITED, UNEDITED, FLOOR)
    assert found.erased == {"concept": 0.0, "synonym": 0.0} and found.objective == 0.0


def test_a_model_that_never_saw_the_concept_scores_one():
    found = score(UNEDITED | FLOOR, UNEDITED, FLOOR)
    assert found.objective == pytest.approx(1.0)


def test_less_than_the_floor_is_no_better_than_the_floor():
    assert score(UNEDITED | {"concept": 0.0, "synonym": 0.0}, UNEDITED, FLOOR).objective == pytest.approx(1.0)


def test_a_model_that_draws_nothing_right_scores_nothing():
    noise = dict.fromkeys(UNEDITED, 0.0)
    found = score(noise, UNEDITED, FLOOR)
    assert found.lost == pytest.approx(dict.fromkeys(RETAINED, 1.0)) and found.objective == pytest.approx(0.0)


def test_hand_values():
    edited = {"concept": 0.4, "synonym": 0.9, "seen": 0.95, "near": 0.72, "far": 0.97}
    found = score(edited, UNEDITED, FLOOR)
    assert found.erased == pytest.approx({"concept": 0.8, "synonym": 0.0})
    assert found.lost == pytest.approx({"seen": 0.0, "near": (0.2 - MARGIN) / (1 - MARGIN), "far": 0.0})
    assert found.objective == pytest.approx(0.4 - (0.2 - MARGIN) / (1 - MARGIN))
    assert found.listed()["objective"] == found.objective


def test_a_word_that_is_deleted_leaves_synonyms():
    """The word filter: half, however well it does on the word itself."""
    assert score(UNEDITED | {"concept": 0.25}, UNEDITED, FLOOR).objective == pytest.approx(0.5)


def test_the_worst_set_counts_and_not_the_mean():
    spared, shared = ({**UNEDITED, **FLOOR, "near": near, "far": far} for near, far in ((0.45, 1.0), (0.9, 0.5)))
    assert score(spared, UNEDITED, FLOOR).objective == pytest.approx(score(shared, UNEDITED, FLOOR).objective)


def test_a_loss_within_the_margin_costs_nothing():
    assert beyond(MARGIN, MARGIN) == 0.0 and beyond(1.0, MARGIN) == 1.0
    assert score(UNEDITED | FLOOR | {"far": 1 - MARGIN}, UNEDITED, FLOOR).objective == pytest.approx(1.0)


def test_a_synonym_that_the_model_does_not_know_does_not_count():
    unedited = UNEDITED | {"synonym": FLOOR["synonym"] + LEAST / 2}
    found = score(unedited | {"concept": 0.25, "synonym": 0.6}, unedited, FLOOR)
    assert found.erased == {"concept": 1.0}


def test_sets_that_a_concept_lacks_do_not_count():
    unedited = {"concept": 1.0, "near": 1.0}
    assert score({"concept": 0.25, "near": 1.0}, unedited, FLOOR).objective == 1.0


@pytest.mark.parametrize(
    ("unedited", "says"),
    [
        (
            {"concept": 0.3, "far": 1.0},
            "so nothing can be erased: concept 30% with a floor of 25%",
        ),
        ({"concept": 1.0, "far": 0.0}, "gets no retained picture right"),
    ],
)
def test_a_model_with_nothing_to_erase_or_retain_is_refused(unedited, says):
    with pytest.raises(ValueError, match=says):
        score(unedited, unedited, FLOOR)
