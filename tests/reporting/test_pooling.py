"""The bootstrap over seeds and prompts, which all seeds share."""

import random

import pytest

from stages.metrics.intervals import wilson
from stages.reporting.pooling import _effective, crossed


def values(n, mean, seed):
    dice = random.Random(seed)
    return [dice.gauss(mean, 1) for _ in range(n)]


def prompts(*groups):
    return {f"prompt {i}": group for i, group in enumerate(groups)}


def singles(numbers):
    return prompts(*([value] for value in numbers))


def test_equal_values_leave_no_doubt():
    assert crossed([prompts([0.3], [0.3, 0.3]), prompts([0.3])], seed=0) == pytest.approx((0.3, 0.3))


def test_one_seed_of_many_prompts_gives_the_normal_interval():
    own = values(400, 2.0, 1)
    mean = sum(own) / 400
    deviation = (sum((value - mean) ** 2 for value in own) / 400) ** 0.5
    expected = (mean - 1.96 * deviation / 20, mean + 1.96 * deviation / 20)
    assert crossed([singles(own)], seed=0) == pytest.approx(expected, abs=0.02)


def test_seeds_that_disagree_widen_the_interval():
    alike = [singles(values(200, mean, mean)) for mean in (1, 1)]
    apart = [singles(values(200, mean, mean)) for mean in (0, 2)]
    (low, high), (lower, higher) = crossed(alike, seed=0), crossed(apart, seed=0)
    assert higher - lower > 5 * (high - low)


def test_seeds_that_agree_on_every_picture_are_worth_one():
    """A method that nothing is trained for draws the same pictures at every seed."""
    own = singles(values(200, 1.0, 1))
    (low, high), (lower, higher) = crossed([own], seed=0), crossed([own] * 5, seed=0)
    assert (lower, higher) == pytest.approx((low, high), abs=0.02)
    pictures = {(f"prompt {i}", 7): 0.0 for i in range(96)}
    assert _effective([pictures] * 3) == _effective([pictures]) == 96
    assert wilson(0, 288, effective=_effective([pictures] * 3)) == wilson(0, 96)


def test_a_prompt_counts_with_all_its_images():
    low, high = crossed([prompts(*[[1.0] * 9] * 30, *[[0.0]] * 30)], seed=0)
    assert low < 0.9 < high and low > 0.8


def test_the_seed_decides_the_bytes():
    groups = [singles(values(50, 0, seed)) for seed in (0, 1)]
    assert crossed(groups, seed=3) == crossed(groups, seed=3) != crossed(groups, seed=4)
