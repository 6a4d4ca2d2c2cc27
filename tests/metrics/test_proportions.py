"""Intervals of rates and of paired differences: the coverage they promise, at the edges too, and printed values."""

from itertools import product

import pytest
import torch
from scipy import optimize, stats

from stages.metrics.intervals import wilson
from stages.metrics.proportions import clustered, degrees, difference, holm, pairs_worth, rate_interval, tango

DRAWS = 2000
RATES = list(product(((6, 16), (16, 6), (28, 4), (48, 2), (96, 1)), (0.0, 0.1, 0.3, 0.5), (0.02, 0.05, 0.2, 0.5, 0.95)))
REVIEWED = {((28, 4), 0.5, 0.05), ((6, 16), 0.3, 0.95)}  # where 84 and 76 % were covered


def drawn(size, rho, rate, seed):
    """Successes (DRAWS, prompts) of prompts whose own rates have a Beta distribution."""
    prompts, pictures = size
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))
        own = torch.full((DRAWS, prompts), rate, dtype=torch.float64)
        if rho:
            spread = (1 - rho) / rho
            own = torch.distributions.Beta(own * spread, (1 - own) * spread).sample()
        return torch.distributions.Binomial(pictures, own).sample().long()


@pytest.fixture(scope="module")
def covered():
    """The share of samples, of each cell of the grid, whose interval has the true rate in it."""
    shares = {}
    for number, (size, rho, rate) in enumerate(RATES):
        if rho and size[1] == 1:
            continue
        low, high = clustered(drawn(size, rho, rate, number), torch.full((size[0],), size[1]))
        shares[size, rho, rate] = float(((low <= rate) & (rate <= high)).double().mean())
    return shares


def test_a_rate_is_covered_as_often_as_it_says_and_never_less_than_93_percent(covered):
    assert set(covered) >= REVIEWED
    assert min(covered.values()) >= 0.93
    assert sum(0.93 <= share <= 0.97 for share in covered.values()) > 0.6 * len(covered)
    assert sum(covered.values()) / len(covered) < 0.97


def test_more_than_97_percent_are_covered_only_where_a_few_outcomes_are_all_there_is(covered):
    """An interval that is short enough there would miss the case of no success at all, and with it whole percents."""
    loose = {cell: share for cell, share in covered.items() if share > 0.97}
    assert max(loose.values()) <= 0.99
    for size, rho, rate in loose:
        worth = size[0] * size[1] / (1 + (size[1] - 1) * rho)
        assert min(rate, 1 - rate) * worth < 6 or size[0] <= 16


@pytest.mark.parametrize(("k", "n", "prompts"), [(0, 96, 28), (96, 96, 6), (4, 96, 28)])
def test_a_rate_at_the_edge_of_few_prompts_is_not_worth_all_its_pictures(k, n, prompts):
    groups = torch.arange(prompts).repeat_interleave(-(-n // prompts))[:n]
    low, high = rate_interval((torch.arange(n) < k).double(), groups)
    plain = wilson(k, n)
    assert low <= plain[0] and high >= plain[1]
    assert high - low > (1.2 if prompts == 28 else 2.5) * (plain[1] - plain[0])
    assert (low == 0) == (k == 0) and (high == 1) == (k == n)


def test_pictures_that_each_have_their_own_prompt_are_worth_themselves():
    low, high = rate_interval((torch.arange(96) < 20).double(), torch.arange(96))
    assert (low, high) == pytest.approx(wilson(20, 96), abs=0.01)


def test_the_two_sides_of_a_rate_are_mirrored():
    values, groups = (torch.arange(40) % 7 == 0).double(), torch.arange(10).repeat_interleave(4)
    low, high = rate_interval(values, groups)
    assert rate_interval(1 - values, groups) == pytest.approx((1 - high, 1 - low), abs=1e-9)


def test_prompts_of_different_sizes_count_and_order_does_not():
    groups = torch.tensor([0] * 5 + [1] * 3 + [2] * 2 + [3])
    values = torch.tensor([1.0, 1, 1, 0, 1, 0, 0, 0, 1, 1, 0])
    order = torch.randperm(11, generator=torch.Generator().manual_seed(0))
    assert rate_interval(values, groups) == pytest.approx(rate_interval(values[order], 7 - groups[order]))


def test_one_prompt_alone_leaves_the_rate_wide_open():
    low, high = rate_interval(torch.ones(96), torch.zeros(96))
    assert low < 0.5 and high == 1


@pytest.mark.parametrize(
    "cells",
    [(36, 12, 2, 0), (20, 12, 2, 16), (35, 14, 0, 1), (18, 14, 0, 18), (2, 97, 1, 0), (0, 29, 1, 0), (1, 1, 7, 12)],
)
def test_tango_s_interval_is_where_the_score_of_the_restricted_likelihood_reaches_the_quantile(cells):
    """The likelihood is maximised by hand here, cell by cell, under each difference."""
    _, more, less, _ = cells
    n = sum(cells)

    def score(gap):
        def loss(rarer):  # -log likelihood where the second alone is 1 in a share `rarer` of the pairs
            parts = ((more, rarer + gap), (less, rarer), (n - more - less, 1 - 2 * rarer - gap))
            return -sum(count * torch.tensor(max(share, 1e-300)).log().item() for count, share in parts if count)

        low, high = max(0.0, -gap), (1 - gap) / 2
        best = optimize.minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-12}).x
        return (more - less - n * gap) / (n * (2 * best + gap - gap * gap)) ** 0.5

    low, high = (float(bound) for bound in tango(*(torch.tensor([v]) for v in (more, less, n)), 1.959964))
    for bound, sign in ((low, 1), (high, -1)):
        if abs(bound) < 0.999:
            assert score(bound) == pytest.approx(sign * 1.959964, abs=2e-3)


def test_tango_s_interval_has_no_zero_width_at_equal_outcomes():
    low, high = tango(torch.tensor([0.0]), torch.tensor([0.0]), torch.tensor([54.0]), 1.959964)
    assert float(high[0]) == -float(low[0]) == pytest.approx(1.959964**2 / (54 + 1.959964**2), abs=1e-6)


def test_equal_outcomes_and_opposite_ones_keep_a_width():
    """Before, 192 pairs of equal outcomes gave [0, 0], and 96 of opposite ones [-1, -1]."""
    groups = torch.arange(84).repeat_interleave(3)[:192]
    same = difference(torch.ones(192), torch.ones(192), groups)
    assert (same.value, same.p) == (0, 1) and same.low < -0.015 and same.high > 0.015
    gone = difference(torch.zeros(96), torch.ones(96), torch.arange(28).repeat_interleave(4)[:96])
    assert gone.value == -1 and gone.low == pytest.approx(-1, abs=1e-6) and -0.97 < gone.high < -0.8 and gone.p < 1e-9


def test_a_difference_of_independent_pairs_is_mcnemar_s_test():
    a = torch.cat([torch.ones(12), torch.zeros(2), torch.ones(400)])
    b = torch.cat([torch.zeros(12), torch.ones(2), torch.ones(400)])
    found = difference(a, b, torch.arange(414))
    assert found.p == pytest.approx(float(stats.chi2.sf((12 - 2) ** 2 / 14, 1)), rel=0.1)
    assert found.value == pytest.approx(10 / 414) and found.low > 0
    turned = difference(b, a, torch.arange(414))
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low), abs=1e-9)


def test_what_was_not_asked_leaves_its_pair_out():
    nan = torch.nan
    a, b = torch.tensor([1.0, 0, nan, 1]), torch.tensor([0.0, 0, 1, nan])
    assert difference(a, b, torch.arange(4)) == difference(a[:2], b[:2], torch.arange(2))
    with pytest.raises(ValueError, match="at least one pair"):
        difference(a[2:], b[2:], torch.arange(2))


def pairs(size, rates, rho, likeness, seed):
    """Outcomes (DRAWS, prompts, pictures) of two methods: latent numbers below a threshold each, correlated by `rho`
    within prompts and by `likeness` between the methods.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(DRAWS, *shape, generator=generator, dtype=torch.float64)

    prompt, noise, found = normal(size[0], 1), normal(*size), []
    for rate in rates:
        own = [likeness**0.5 * both + (1 - likeness) ** 0.5 * normal(*both.shape[1:]) for both in (prompt, noise)]
        found.append((rho**0.5 * own[0] + (1 - rho) ** 0.5 * own[1] < stats.norm.ppf(rate)).double())
    return found


@pytest.mark.parametrize("likeness", [0.0, 0.7])
@pytest.mark.parametrize("rho", [0.0, 0.4, 0.7])
@pytest.mark.parametrize("size", [(6, 16), (28, 4)])
def test_a_paired_difference_is_covered_as_often_as_it_says(size, rho, likeness):
    for number, (first, second) in enumerate(((0.05, 0.05), (0.05, 0.2), (0.5, 0.5), (0.97, 0.98))):
        a, b = pairs(size, (first, second), rho, likeness, number)
        steps, n = a - b, float(size[0] * size[1])
        worth = pairs_worth(steps.sum(2), (steps != 0).sum((1, 2)), torch.full((size[0],), size[1]))
        reach = torch.tensor([stats.t.ppf(0.975, degrees(value, size[0])) for value in worth.tolist()])
        low, high = tango(*((steps == sign).sum((1, 2)) * worth / n for sign in (1, -1)), worth, reach)
        gap = first - second
        assert float(((low <= gap + 1e-9) & (gap - 1e-9 <= high)).double().mean()) >= 0.93


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == [] and holm([0.5, 0.9]) == [1, 1]
