import logging

import pytest
import torch

from stages.metrics.base import measure
from stages.metrics.drift import Drift
from stages.metrics.frechet import Frechet, frechet, frechet_distance
from stages.metrics.kid import KID, clip_distance, mmd
from stages.metrics.samples import Samples
from stages.worlds.captions import DIRECTIONS
from stages.worlds.shapes import Shapes

WORLD = Shapes()


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rendered(n: int, seed: int, exclude: str | None = None) -> Samples:
    batch = WORLD.sample(n, seed, exclude)
    pairs = zip(batch.colour.tolist(), batch.shape.tolist(), strict=True)
    rows = [
        {"prompt": "p", "seed": i, "colour": WORLD.colours[c], "shape": WORLD.shapes[s]}
        for i, (c, s) in enumerate(pairs)
    ]
    return Samples(batch.images, rows, {"colour": "red"})


def values(metric, edited, original):
    content = measure(metric, "m", {"retain": edited}, {"retain": original})
    return {row["metric"]: row for row in content["rows"]}, content["samples"]["retain"]


def test_frechet_of_two_normals_is_the_closed_form():
    diagonal = (torch.tensor([1.0, 4.0]).double(), torch.tensor([9.0, 1.0]).double())
    mean = torch.tensor([3.0, 0.0]).double()
    found = frechet_distance(0 * mean, diagonal[0].diag(), mean, diagonal[1].diag())
    assert found == pytest.approx(9 + (1 - 3) ** 2 + (2 - 1) ** 2)


def test_frechet_is_symmetric_and_blind_to_rotation():
    x, y = normal(60, 5), 2 * normal(80, 5, seed=1) + 1
    turn = torch.linalg.qr(normal(5, 5, seed=2)).Q
    assert frechet(x, y) == pytest.approx(frechet(y, x)) == pytest.approx(frechet(x @ turn, y @ turn))
    assert frechet(x, x) == pytest.approx(0, abs=1e-9)


def test_kernel_distance_is_unbiased():
    gaps = torch.stack([mmd(normal(20, 4, seed=2 * i), normal(20, 4, seed=2 * i + 1)) for i in range(300)])
    assert abs(float(gaps.mean())) < 3 * float(gaps.std()) / 300**0.5
    assert mmd(normal(50, 4), normal(50, 4, seed=1) + 1) > 1


def test_the_paired_kernel_distance_is_unbiased_where_rows_are_twins():
    noise = [normal(20, 4, seed=i) for i in range(300)]
    for paired, bias in ((True, False), (False, True)):
        gaps = torch.stack([mmd(x, x + 0.1 * y, paired=paired) for x, y in zip(noise, noise[::-1], strict=True)])
        assert (abs(float(gaps.mean())) > 5 * float(gaps.std()) / 300**0.5) == bias


def clips(n: int, frames: int, seed: int = 0) -> torch.Tensor:
    """Features of clips whose frames are nearly alike."""
    return normal(n, 1, 4, seed=seed) + 0.1 * normal(n, frames, 4, seed=1000 + seed)


@pytest.mark.parametrize("paired", [False, True])
def test_the_kernel_distance_of_clips_compares_no_frame_with_its_own_clip(paired):
    x, y = clips(4, 3), clips(4, 3, seed=1)

    def mean(a: torch.Tensor, b: torch.Tensor, apart: bool) -> float:
        pairs = [(i, j) for i in range(4) for j in range(4) if i != j or not apart]
        found = [(float(p @ q) / 4 + 1) ** 3 for i, j in pairs for p in a[i] for q in b[j]]
        return sum(found) / len(found)

    expected = mean(x, x, True) + mean(y, y, True) - 2 * mean(x, y, paired)
    assert clip_distance(x, y, paired=paired) == pytest.approx(expected)


@pytest.mark.parametrize("paired", [False, True])
def test_the_kernel_distance_is_unbiased_for_clips(paired):
    pairs = [(clips(12, 3, seed=2 * i), clips(12, 3, seed=2 * i + 1)) for i in range(300)]
    pairs = [(x, 0.6 * x + 0.8 * y if paired else y) for x, y in pairs]  # of one distribution all the same
    single = [mmd(x.flatten(0, 1), y.flatten(0, 1), paired=paired) for x, y in pairs]
    found = torch.tensor([[clip_distance(x, y, paired=paired) for x, y in pairs], single]).T
    error = found.std(0) / 300**0.5
    assert (found.mean(0).abs() > 4 * error).tolist() == [False, True]  # frames taken for clips are not


def test_a_picture_is_a_clip_of_one_frame():
    x, y = normal(20, 4), normal(20, 4, seed=1)
    for paired in (False, True):
        assert clip_distance(x[:, None], y[:, None], paired=paired) == float(mmd(x, y, paired=paired))


@pytest.mark.parametrize(("metric", "prefix"), [(Frechet(reference=256), "frechet"), (KID(reference=256), "kid")])
def test_a_distance_tells_other_pictures_from_equal_ones(metric, prefix):
    original, same = rendered(120, 0), rendered(120, 1)
    blank = original.images.mean((2, 3), keepdim=True).expand_as(original.images)
    other = Samples(blank, original.rows, original.target)
    near = values(metric, Samples(same.images, original.rows, {}), original)[0]
    far = values(metric, other, original)[0]
    for name in (f"{prefix}_real", f"{prefix}_unedited"):
        assert far[name]["value"] > 3 * abs(near[name]["value"]) and far[name]["n"] == 120
        assert far[name]["ci_low"] < far[name]["value"] < far[name]["ci_high"]
    assert values(metric, original, original)[0][f"{prefix}_unedited"]["value"] == pytest.approx(0, abs=1e-6)


def test_too_few_samples_are_warned_of_and_have_no_interval(caplog):
    few = rendered(6, 0)
    with caplog.at_level(logging.WARNING):
        content = measure(Frechet(reference=64), "m", {"concept": few, "retain": few}, {"concept": few, "retain": few})
    assert "lacks rank" in content["caveat"] and not caplog.text
    found = {row["metric"]: row for row in content["rows"]}
    assert found["frechet_unedited"]["ci_low"] is None and found["frechet_unedited"]["value"] < 1e-3


def test_one_sample_has_no_distance():
    clip = Samples(WORLD.clips(1, 0, frames=3).images, [{"prompt": "p", "seed": 0}], {})
    for metric in (Frechet(reference=8), KID(reference=8)):
        for one in (rendered(1, 0), clip):
            assert measure(metric, "m", {"concept": one}, {"concept": one})["rows"] == []


def test_drift_is_zero_against_itself_and_by_hand_otherwise():
    original = rendered(12, 0)
    found, _ = values(Drift(draws=200), original, original)
    assert [found["pixel_drift"][key] for key in ("value", "ci_low", "ci_high")] == [0, 0, 0]
    images = original.images.clone()
    images[:6] = 1 - images[:6]
    gap = (images - original.images).abs().double().mean()
    found, outcomes = values(Drift(draws=200), Samples(images, original.rows, {}), original)
    assert found["pixel_drift"]["value"] == pytest.approx(float(gap), rel=1e-6)
    assert found["feature_drift"]["value"] > 0 and len(outcomes["feature_drift"]) == 12
    assert outcomes["pixel_drift"][6:] == [0] * 6


def test_without_an_original_there_is_no_drift_and_no_distance_to_it():
    samples = rendered(45, 0)
    for metric, names in ((Drift(), []), (Frechet(reference=64), ["frechet_real"])):
        assert [row["metric"] for row in measure(metric, "m", {"concept": samples}, None)["rows"]] == names


def test_distances_and_drift_take_clips():
    batch = WORLD.clips(6, 0, frames=3)
    rows = [{"prompt": "p", "seed": i, "direction": DIRECTIONS[d]} for i, d in enumerate(batch.direction.tolist())]
    clips = Samples(batch.images, rows, {})
    assert values(Frechet(reference=40), clips, clips)[0]["frechet_real"]["n"] == 6
    assert values(Drift(draws=50), clips, clips)[0]["pixel_drift"]["value"] == 0
