"""One number of several trainings: backbone > training seed > prompt > noise."""

import random

import pytest
import torch

from stages.metrics.proportions import rate_interval
from stages.reporting.levels import Trained, means, nested, rates, steps, together
from stages.reporting.numbers import Number


def values(n, mean, seed):
    dice = random.Random(seed)
    return [dice.gauss(mean, 1) for _ in range(n)]


def singles(numbers):
    return {(f"prompt {i}", 7): value for i, value in enumerate(numbers)}


def outcomes(rate, seed, prompts=28, noises=4):
    dice = random.Random(seed)
    return {(f"prompt {i}", j): float(dice.random() < rate) for i in range(prompts) for j in range(noises)}


def trained(*given, backbone="sd"):
    return [Trained(backbone, seed, pictures) for seed, pictures in enumerate(given)]


def width(number):
    return number.high - number.low


@pytest.mark.parametrize("shares", [(0.0, 0.3, 0.56), (0.03, 0.53, 0.1)])
def test_a_rate_of_seeds_that_disagree_spans_what_another_seed_might_give(shares):
    """The review's case: all seeds' pictures in one bag gave 21.7 % [17.6, 26.4] for 3, 53 and 10 %."""
    number = together(trained(*(outcomes(share, i) for i, share in enumerate(shares))), rates, limits=(0, 1))
    spread = torch.tensor([sum(outcomes(s, i).values()) / 112 for i, s in enumerate(shares)])
    assert number.low < float(spread.min()) + 0.05 and number.high > float(spread.max()) and not number.parts


def test_more_seeds_that_disagree_widen_the_interval_of_a_rate_and_of_a_mean():
    for leaf, runs in ((rates, outcomes), (means, lambda mean, seed: singles(values(200, 4 * mean, seed)))):
        one = together(trained(runs(0.3, 0)), leaf)
        apart = together(trained(*(runs(mean, i) for i, mean in enumerate((0.05, 0.3, 0.55, 0.1, 0.5, 0.3)))), leaf)
        alike = together(trained(*(runs(0.3, i) for i in range(6))), leaf)
        assert width(apart) > 1.4 * width(one) and width(apart) > 1.4 * width(alike)


def test_of_two_seeds_the_values_stand_side_by_side_and_the_bounds_are_the_outermost():
    first, second = outcomes(0.0, 0), outcomes(0.56, 1)
    number = together(trained(first, second), rates)
    alone = [together(trained(pictures), rates) for pictures in (first, second)]
    assert [part.value for part in number.parts] == [one.value for one in alone]
    assert (number.low, number.high) == (alone[0].low, alone[1].high)
    assert number.value == pytest.approx(sum(one.value for one in alone) / 2) and number.n == 224


def test_of_two_backbones_each_has_the_interval_of_its_seeds():
    runs = [
        *trained(*(outcomes(share, i) for i, share in enumerate((0.1, 0.2, 0.3))), backbone="sd-1"),
        *trained(*(outcomes(share, i) for i, share in enumerate((0.5, 0.6, 0.7))), backbone="sd-2"),
    ]
    number = together(runs, rates, limits=(0, 1))
    halves = [
        together([run for run in runs if run.backbone == name], rates, limits=(0, 1)) for name in ("sd-1", "sd-2")
    ]
    assert [(part.value, part.low) for part in number.parts] == [(half.value, half.low) for half in halves]
    four = together([run for run in runs if run.seed < 2], rates)
    assert len(four.parts) == 4


def test_three_backbones_are_the_outermost_level_whatever_their_seeds():
    shares = {"sd-0": (0.1, 0.12), "sd-1": (0.4, 0.42), "sd-2": (0.7, 0.72)}
    runs = [
        run
        for name, own in shares.items()
        for run in trained(*(outcomes(s, i) for i, s in enumerate(own)), backbone=name)
    ]
    number = together(runs, rates, limits=(0, 1))
    pooled = together([Trained("sd", i, run.pictures) for i, run in enumerate(runs)], rates, limits=(0, 1))
    assert not number.parts and width(number) > 1.3 * width(pooled)


def test_runs_of_which_nothing_was_trained_are_one():
    pictures = outcomes(0.2, 0)
    two, three, one = (together(trained(*[pictures] * n), rates) for n in (2, 3, 1))
    assert not two.parts and (two.low, two.high) == (three.low, three.high) == (one.low, one.high)


def test_trainings_that_all_leave_nothing_keep_the_width_of_one_run():
    none = outcomes(0.0, 0)
    other = dict(none) | {("prompt 0", 0): 1.0}
    number = together(trained(none, none, none, other), rates, limits=(0, 1))
    assert (
        number.low == 0
        and number.high >= 0.9 * rate_interval(torch.zeros(112), torch.arange(28).repeat_interleave(4))[1]
    )


def test_one_seed_of_many_prompts_gives_the_normal_interval():
    own = values(400, 2.0, 1)
    mean = sum(own) / 400
    deviation = (sum((value - mean) ** 2 for value in own) / 400) ** 0.5
    number = together(trained(singles(own)), means)
    assert (number.low, number.high) == pytest.approx(
        (mean - 1.96 * deviation / 20, mean + 1.96 * deviation / 20), abs=0.02
    )


def test_one_prompt_has_the_interval_of_its_noise():
    pictures = {("one", i): value for i, value in enumerate(values(50, 0, 0))}
    assert width(together(trained(pictures), means)) > 0.3


def test_the_bootstrap_of_few_seeds_has_the_variance_of_their_mean():
    runs = [{(f"prompt {i}", 0): mean for i in range(30)} for mean in (0.0, 1.0, 2.0)]
    low, high = nested([runs], seed=0, draws=20000)
    assert (low, high) == (0, 2)  # of means of two, each a third of 0, 1 and 2
    assert nested([[runs[0]], [runs[1]], [runs[2]]], seed=0, draws=20000) == (0, 2)


def test_a_difference_of_two_seeds_holds_only_if_both_say_so():
    less = {picture: value - 1 for picture, value in outcomes(0.5, 0).items()}
    both = together(trained(less, {**less, ("prompt 0", 0): 0.0}), steps)
    assert both.high < 0 and both.p < 1e-4
    split = together(trained(less, {picture: -value for picture, value in less.items()}), steps)
    assert split.p == 1 and split.low < 0 < split.high


def test_a_difference_of_three_backbones_counts_how_far_they_lie_apart():
    drops = (0.1, 0.4, 0.7)
    runs = [
        Trained(f"sd-{i}", 0, {picture: value - 1 for picture, value in outcomes(1 - drop, i).items()})
        for i, drop in enumerate(drops)
    ]
    number, alone = together(runs, steps, limits=(-1, 1)), together(runs[1:2], steps)
    assert number.low < -0.7 and number.high > 0 and number.p > 0.05 > alone.p


@pytest.mark.parametrize("spread", [0.0, 0.05, 0.15])
def test_three_trainings_cover_the_rate_of_all_as_often_as_they_say(spread):
    """Rates of trainings are drawn around 40 %, prompts are shared."""
    covered = 0
    dice = random.Random(5)
    for repeat in range(200):
        prompts = [dice.gauss(0, 0.1) for _ in range(20)]
        runs = []
        for seed in range(3):
            own = 0.4 + dice.gauss(0, spread)
            pictures = {
                (f"prompt {i}", j): float(dice.random() < own + shift)
                for i, shift in enumerate(prompts)
                for j in range(4)
            }
            runs.append(Trained("sd", seed, pictures))
        number = together(runs, rates, limits=(0, 1), seed=repeat)
        covered += number.low <= 0.4 <= number.high
    assert covered >= 0.93 * 200


def test_the_seed_decides_the_bytes_and_nothing_is_refused():
    runs = [singles(values(50, 0, seed)) for seed in (0, 1, 2)]
    assert nested([runs], seed=3) == nested([runs], seed=3) != nested([runs], seed=4)
    with pytest.raises(ValueError, match="at least one run"):
        together([], rates)
    assert isinstance(together(trained(*runs), means), Number)
