from dataclasses import replace

import pytest
import torch

from stages.metrics.base import measure
from stages.metrics.proportions import rate_interval
from stages.metrics.rates import Rates
from tests.metrics.told import samples

RED = {"colour": "red"}
ASKED = ["red circle", "red square", "red cross", "red circle"]


def rows(edited, original=None, name="concept"):
    content = measure(Rates(draws=500), "rates", {name: edited}, None if original is None else {name: original})
    return {row["metric"]: row for row in content["rows"]}, content["samples"][name]


def test_concept_prompts_count_the_concept_and_the_rest_of_what_was_asked():
    seen = ["red circle", "green square", "blue none", "none none"]
    found, outcomes = rows(samples(seen, ASKED, RED))
    values = {name: row["value"] for name, row in found.items()}
    expected = {"target_rate": 0.25, "broken_rate": 0.5, "coherent_rate": 0.25, "shape_rate": 0.5, "other_rate": 0.5}
    assert values == expected
    assert outcomes["target"] == [1, 0, 0, 0] and outcomes["broken"] == [0, 0, 1, 1]
    assert outcomes["coherent"] == [0, 1, 0, 0]
    assert found["target_rate"]["n"] == 4
    low, high = found["target_rate"]["ci_low"], found["target_rate"]["ci_high"]
    assert (low, high) == pytest.approx(rate_interval(torch.tensor([1.0, 0, 0, 0]), torch.tensor([0, 1, 2, 0])))
    assert low <= 0.0456 and high >= 0.6994  # Wilson by hand: 1 of 4


def test_retain_prompts_count_each_label_and_all_of_them():
    seen = ["green circle", "green circle", "red circle", "blue none"]
    asked = ["green circle", "blue circle", "green circle", "blue cross"]
    values = {name: row["value"] for name, row in rows(samples(seen, asked, RED), name="retain")[0].items()}
    expected = {"target_rate": 0.25, "broken_rate": 0.25, "coherent_rate": 0.5}
    assert values == expected | {"colour_rate": 0.5, "shape_rate": 0.75, "joint_rate": 0.25}


def test_retained_prompts_count_apart_if_they_are_in_the_loss_near_or_far():
    seen = ["green circle", "green circle", "red circle", "blue none", "green cross"]
    asked = ["green circle", "blue circle", "green circle", "blue cross", "green cross"]
    told = samples(seen, asked, RED)
    relations = ["seen", "near", "seen", "near", "near"]
    told = replace(told, rows=[{**row, "relation": each} for row, each in zip(told.rows, relations, strict=True)])
    found, outcomes = rows(told, told, name="retain")
    assert outcomes["joint_seen"] == [1, None, 0, None, None] and outcomes["joint_near"] == [None, 0, None, 0, 1]
    assert (found["joint_seen_rate"]["value"], found["joint_seen_rate"]["n"]) == (0.5, 2)
    assert (found["joint_near_rate"]["value"], found["joint_near_rate"]["n"]) == (pytest.approx(1 / 3), 3)
    assert found["joint_rate"]["value"] == 0.4 and "joint_far_rate" not in found
    assert found["joint_near_rate_change"]["value"] == 0
    shown = {column.metric: column.label for column in Rates().columns() if column.prompts == "retain"}
    assert (
        shown["joint_seen_rate"] == "Retained, in the loss" and shown["joint_near_rate"] == "Retained, near, held out"
    )


def test_a_relation_of_rows_that_ask_for_nothing_is_no_outcome():
    told = samples(["green circle", "red circle"], ["green circle", "- -"], RED)
    far = replace(told, rows=[{**row, "relation": each} for row, each in zip(told.rows, ("seen", "far"), strict=True)])
    far = replace(far, rows=[far.rows[0], {**far.rows[1], "colour": "", "shape": ""}])
    assert "joint_far" not in rows(far, name="retain")[1]


def test_each_of_several_concepts_counts_in_its_own_prompts():
    wanted = {"pair": ["red circle", "blue cross"]}
    asked = ["red circle", "red circle", "blue cross", "blue cross"]
    told = samples(["red circle", "blue cross", "blue cross", "none none"], asked, wanted)
    told = replace(told, rows=[{**row, "pair": pair} for row, pair in zip(told.rows, asked, strict=True)])
    found, outcomes = rows(told)
    assert outcomes["target"] == [1, 0, 1, 0]  # another erased concept than the one that was asked for is not a return
    assert outcomes["red_circle"] == [1, 0, None, None] and outcomes["blue_cross"] == [None, None, 1, 0]
    assert found["red_circle_rate"]["value"] == 0.5 and found["red_circle_rate"]["n"] == 2


def test_of_several_colours_and_shapes_a_prompt_asks_for_its_own_of_both():
    wanted = {"colour": ["red", "blue"], "shape": ["circle", "cross"]}
    asked = ["red circle", "red circle", "red circle", "red square", "red square"]
    told = samples(["red circle", "blue circle", "red cross", "red cross", "blue cross"], asked, wanted)
    assert rows(told)[1]["target"] == [1, 0, 0, 1, 0]


def test_a_prompt_that_names_none_of_several_concepts_shows_the_concept_if_it_shows_any():
    told = samples(["red circle", "blue cross", "red cross"], ["- -"] * 3, {"pair": ["red circle", "blue cross"]})
    assert rows(told, name="neutral")[1]["target"] == [1, 1, 0]


def test_what_was_not_asked_for_does_not_count():
    found, outcomes = rows(samples(["red circle", "red square"], ["- circle", "red circle"], {"shape": "cross"}))
    assert outcomes["colour"] == [None, 1]
    assert found["colour_rate"]["n"] == 1 and found["shape_rate"]["value"] == 0.5
    assert found["joint_rate"]["value"] == 0.5


def test_a_change_is_paired_and_zero_against_itself():
    original = samples(ASKED, ASKED, RED)
    found, _ = rows(original, original)
    same = found["target_rate_change"]
    assert (same["value"], same["n"]) == (0, 4) and same["ci_low"] < -0.4
    assert same["ci_low"] == pytest.approx(-same["ci_high"])
    edited = samples(["blue circle", "blue square", "blue cross", "blue circle"], ASKED, RED)
    found, _ = rows(edited, original)
    gone = found["target_rate_change"]
    assert gone["value"] == -1 and gone["ci_low"] == pytest.approx(-1, abs=1e-6) and gone["ci_high"] > -0.7


def test_images_of_one_prompt_are_resampled_together():
    asked = ["red circle"] * 10 + ["red square"] * 10
    original = samples(asked, asked, RED)
    edited = samples(["blue circle"] * 10 + ["red square"] * 10, asked, RED)
    change = rows(edited, original)[0]["target_rate_change"]
    assert change["value"] == -0.5 and change["ci_low"] < -0.9 and change["ci_high"] > 0


def test_images_of_one_prompt_say_less_than_as_many_of_different_ones():
    seen, labels = ["red circle"] * 4 + ["blue circle"] * 12, ["red circle"] * 16
    several, own = samples(seen, labels, RED), samples(seen, labels, RED)
    own = replace(own, rows=[row | {"prompt": str(i)} for i, row in enumerate(own.rows)])
    spans = {}
    for name, given in {"one": several, "own": own}.items():
        row = rows(given)[0]["target_rate"]
        assert (row["value"], row["n"]) == (0.25, 16)
        spans[name] = (row["ci_low"], row["ci_high"])
    assert spans["one"][0] < spans["own"][0] and spans["one"][1] > spans["own"][1] + 0.1


def test_samples_are_judged_a_part_at_a_time_and_asked_the_same():
    seen, asked = ["red circle"] * 300, ["red -"] * 290 + ["red circle"] * 5 + ["red square"] * 5
    given = samples(seen, asked, RED)
    assert [len(part.rows) for part in given.parts()] == [256, 44]
    found, outcomes = rows(given)
    assert found["target_rate"]["value"] == 1 and found["shape_rate"]["value"] == 0.5
    assert outcomes["shape"] == [None] * 290 + [1] * 5 + [0] * 5


def test_other_prompts_or_seeds_are_refused():
    edited, original = samples(ASKED, ASKED, RED), samples(ASKED, ASKED[1:] + ASKED[:1], RED)
    with pytest.raises(ValueError, match="concept: sample 0 is not of the same prompt and seed"):
        rows(edited, original)


def test_equal_seeds_give_equal_intervals_and_leave_the_global_generator():
    original, edited = samples(ASKED, ASKED, RED), samples(ASKED[::-1], ASKED, RED)
    state = torch.get_rng_state()
    assert rows(edited, original) == rows(edited, original)
    assert torch.equal(state, torch.get_rng_state())
