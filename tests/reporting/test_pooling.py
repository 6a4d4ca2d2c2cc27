"""The hierarchical bootstrap."""

import random

import pytest

from stages.reporting.pooling import hierarchical


def values(n, mean, seed):
    dice = random.Random(seed)
    return [dice.gauss(mean, 1) for _ in range(n)]


def test_equal_values_leave_no_doubt():
    assert hierarchical([[[0.3], [0.3, 0.3]], [[0.3]]], seed=0) == pytest.approx((0.3, 0.3))


def test_one_seed_of_many_prompts_gives_the_normal_interval():
    own = values(400, 2.0, 1)
    mean = sum(own) / 400
    deviation = (sum((value - mean) ** 2 for value in own) / 400) ** 0.5
    expected = (mean - 1.96 * deviation / 20, mean + 1.96 * deviation / 20)
    assert hierarchical([[[value] for value in own]], seed=0) == pytest.approx(expected, abs=0.02)


def test_seeds_that_disagree_widen_the_interval():
    alike = [[[value] for value in values(200, mean, mean)] for mean in (1, 1)]
    apart = [[[value] for value in values(200, mean, mean)] for mean in (0, 2)]
    (low, high), (lower, higher) = hierarchical(alike, seed=0), hierarchical(apart, seed=0)
    assert higher - lower > 5 * (high - low)


def test_a_prompt_counts_with_all_its_images():
    ones, zeros = [[1.0] * 9] * 30, [[0.0]] * 30
    low, high = hierarchical([ones + zeros], seed=0)
    assert low < 0.9 < high and low > 0.8


def test_the_seed_decides_the_bytes():
    groups = [[[value] for value in values(50, 0, seed)] for seed in (0, 1)]
    assert hierarchical(groups, seed=3) == hierarchical(groups, seed=3) != hierarchical(groups, seed=4)
