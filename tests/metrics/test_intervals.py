import pytest
import torch
from scipy.stats import binomtest

from stages.metrics.intervals import bootstrap, jackknife, paired_bootstrap, wilson


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("k", "n"), [(0, 10), (3, 10), (10, 10)])
def test_wilson_is_mirrored_and_in_the_unit_interval(k, n):
    low, high = wilson(k, n)
    other = wilson(n - k, n)
    assert 0 <= low <= k / n <= high <= 1
    assert (low, high) == pytest.approx((1 - other[1], 1 - other[0]))


@pytest.mark.parametrize(("k", "n"), [(0, 1), (1, 7), (96, 192), (191, 192), (384, 384)])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_wilson_equals_scipy(k, n, confidence):
    theirs = binomtest(k, n).proportion_ci(confidence_level=confidence, method="wilson")
    assert wilson(k, n, confidence) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


@pytest.mark.parametrize(("k", "n"), [(0, 0), (3, 2), (-1, 2)])
def test_a_rate_of_nothing_is_refused(k, n):
    with pytest.raises(ValueError, match="successes must be 0 to n"):
        wilson(k, n)


def test_wilson_covers_as_often_as_it_says():
    successes = torch.distributions.Binomial(40, torch.tensor(0.2)).sample
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        counts = successes((400,)).int().tolist()
    covered = sum(low <= 0.2 <= high for low, high in (wilson(k, 40) for k in counts))
    assert 0.91 < covered / 400 < 0.99


def test_a_paired_bootstrap_of_a_constant_gap_has_no_width():
    a = normal(30)
    assert paired_bootstrap(a + 0.5, a, seed=0, draws=200) == pytest.approx((0.5, 0.5))


def test_pairing_narrows_the_interval():
    a, noise = normal(60), 0.1 * normal(60, seed=1)
    low, high = paired_bootstrap(a + noise, a, seed=0, draws=1000)
    loose = paired_bootstrap(
        a + noise, a[torch.randperm(60, generator=torch.Generator().manual_seed(3))], seed=0, draws=1000
    )
    assert high - low < 0.3 * (loose[1] - loose[0])


def test_grouped_values_are_wider_and_single_groups_change_nothing():
    prompts = normal(10).repeat_interleave(8)
    groups = torch.arange(10).repeat_interleave(8)
    plain, grouped = bootstrap(prompts, seed=0, draws=1000), bootstrap(prompts, groups=groups, seed=0, draws=1000)
    assert grouped[1] - grouped[0] > 2 * (plain[1] - plain[0])
    assert bootstrap(prompts, groups=torch.arange(80), seed=0, draws=100) == bootstrap(prompts, seed=0, draws=100)


def test_missing_values_are_left_out():
    values = torch.tensor([1.0, torch.nan, 1.0, 1.0])
    assert bootstrap(values, seed=0, draws=100) == (1, 1)


def test_the_jackknife_of_a_mean_is_its_standard_error():
    values = normal(400)
    low, high = jackknife(lambda rows: float(values[rows].mean()), 400, seed=0, parts=100)
    assert (high - low) / 2 == pytest.approx(1.96 * float(values.std()) / 20, rel=0.2)
    assert (low + high) / 2 == pytest.approx(float(values.mean()))
    assert jackknife(lambda rows: 0.0, 10, seed=0) == (None, None)


@pytest.mark.parametrize("n", [40, 64, 96, 199])
def test_the_jackknife_leaves_out_twenty_groups_of_nearly_one_size(n):
    kept = []
    jackknife(lambda rows: kept.append(set(rows.tolist())) or 0.0, n, seed=0)
    left = [set(range(n)) - rows for rows in kept[:20]]
    assert len(kept) == 21 and kept[20] == set(range(n))
    assert set().union(*left) == set(range(n)) and sum(map(len, left)) == n
    assert max(map(len, left)) - min(map(len, left)) <= 1


def test_prompts_that_were_not_asked_are_not_resampled():
    nan = torch.nan
    values = torch.tensor([1.0, 0.0, nan, nan, nan, nan, nan, nan, nan, nan])
    low, high = bootstrap(values, seed=0, groups=torch.arange(10))
    assert (low, high) == bootstrap(values[:2], seed=0, groups=torch.arange(2)) == (0.0, 1.0)
