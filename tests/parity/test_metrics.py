"""Metrics against numbers stored from clean-fid, scipy and the papers' rules; every size is the manifest's."""

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch

from stages.metrics import detectors, intervals
from stages.metrics.clips import verdicts
from stages.metrics.frechet import frechet, moments
from stages.metrics.kid import kid, mmd
from stages.metrics.samples import Samples
from stages.metrics.stored import harmonic, i2p, unlearncanvas
from tests.parity.fixtures import Fixtures

FIXTURES = Fixtures("methods/metrics")


@cache
def stored(name: str) -> Any:
    return FIXTURES.tensors(name) if name.endswith(".safetensors") else FIXTURES.json(name)


def near(expected: float, tolerance: float = 1e-8) -> Any:
    return pytest.approx(float(expected), rel=tolerance, abs=tolerance)


def same(got: torch.Tensor, expected: torch.Tensor) -> bool:
    return torch.allclose(got.double(), expected.double(), rtol=1e-8, atol=1e-8)


def test_every_stored_tensor_has_the_shape_of_the_manifest():
    for name, file in FIXTURES.manifest["files"].items():
        for key, tensor in file.get("tensors", {}).items():
            assert list(stored(name)[key].shape) == tensor["shape"], f"{name}: {key}"


def test_frechet():
    data = stored("distances.safetensors")
    mean, cov = moments(data["x"])
    assert same(mean, data["mu_x"]) and same(cov, data["cov_x"])
    assert frechet(data["x"], data["y"]) == near(data["frechet"])
    assert frechet(data["x"], data["x"]) == near(data["frechet_self"])


def test_frechet_of_fewer_samples_than_features():
    data, small = stored("distances.safetensors"), FIXTURES.config["small"]
    found = frechet(data["x"][:small], data["y"][:small])
    assert found == near(data["frechet_small_eig"])
    assert found == near(data["frechet_small"], 1e-3)


def test_kid():
    data = stored("distances.safetensors")
    found = kid(data["x"], data["y"], data["kid_idx_x"], data["kid_idx_y"])
    assert same(found, data["kid_per_subset"])
    assert not same(found, data["kid_offdiag_variant_per_subset"])
    assert float(found.mean()) == near(data["kid_mean"])
    assert float(found.std()) == near(data["kid_std"])
    assert float(found.std(correction=0)) == near(data["kid_std_pop"])
    n = min(len(data["x"]), len(data["y"]))
    assert float(mmd(data["x"][:n], data["y"][:n])) == near(data["kid_full"])


def test_wilson():
    for case in stored("wilson.json"):
        low, high = intervals.wilson(case["k"], case["n"], case["conf"])
        assert (low, high) == (near(case["low"]), near(case["high"])), case


@pytest.mark.parametrize("kind", ["binary", "cont"])
def test_bootstrap_of_given_resamples(kind):
    data = stored("bootstrap.safetensors")
    found = intervals.resampled_means(data[f"a_{kind}"] - data[f"b_{kind}"], data["idx"])
    assert same(found, data[f"{kind}.boot"])
    assert same(torch.tensor(intervals.percentiles(found), dtype=torch.float64), data[f"{kind}.ci95_given"])


@pytest.mark.parametrize("kind", ["binary", "cont"])
@pytest.mark.parametrize("seed", [0, 1])
def test_bootstrap_of_any_seed_is_in_its_band(kind, seed):
    data, band = stored("bootstrap.safetensors"), stored("bootstrap_band.json")
    draws, expected = band["resamples"], band["bands"][kind]
    a, b = data[f"a_{kind}"], data[f"b_{kind}"]
    low, high = intervals.paired_bootstrap(a, b, seed=seed, draws=draws)
    values = intervals.resampled_means(a - b, intervals.resamples(len(a), draws, seed))
    found = {"ci_low": low, "ci_high": high, "boot_std": float(values.std())}
    found["share_le_0"] = float((values <= 0).double().mean())
    assert float((a - b).mean()) == near(expected["point"])
    for name, value in found.items():
        assert expected[name][0] <= value <= expected[name][1], name


def test_nudenet_presets():
    data = stored("nudenet.json")
    assert set(data["presets"]) <= set(detectors.PRESETS)
    assert set(data["label_set_v3"]) == set(detectors.LABELS)
    raw = detectors.unpack(detectors.pack(data["detections"]))
    for name, expected in data["expected"].items():
        preset = replace(detectors.PRESETS[name], floor=0.0)  # the stored rules know of no paper's own detector
        flags = detectors.flags(raw, preset)
        assert flags.int().tolist() == [int(flag) for flag in expected["image_flags"]], name
        assert int(flags.sum()) == expected["images_flagged"]
        assert float(flags.double().mean()) == near(expected["image_rate"])
        assert intervals.wilson(int(flags.sum()), len(flags)) == tuple(map(near, expected["wilson95"]))
        counted = detectors.instances(raw, preset)
        assert counted == expected["instances_per_class"] and sum(counted.values()) == expected["instances"]


def test_nudenet_preset_definitions():
    for name, rule in stored("nudenet.json")["presets"].items():
        preset = detectors.PRESETS[name]
        assert set(preset.labels) == set(rule["labels"]), name
        assert (preset.threshold, preset.strict, preset.headline) == (
            rule["threshold"],
            rule["strict"],
            rule["headline"],
        )


def test_nudenet_clips():
    data = stored("nudenet.json")
    video = data["video"]
    flags = detectors.flags(data["detections"], detectors.PRESETS[video["preset"]])
    frames = flags.reshape(-1, video["frames_per_clip"])
    clips = Samples(torch.zeros(*frames.shape, 3, 1, 1), [{}] * len(frames), {})
    found = {name: float(values.double().mean()) for name, values in verdicts("nudity", frames, clips).items()}
    assert found["nudity_frame_share"] == near(video["frame_rate"])
    assert found["nudity"] == near(video["any_frame_rate"])


@pytest.mark.parametrize(("domain", "axis"), [("style", 0), ("object", 1)])
def test_unlearncanvas_accuracies(domain, axis):
    data, file = stored("unlearn_predictions.safetensors"), stored("unlearn_metrics.json")
    own, other = (data[f"{domain}_models.pred_{name}"] for name in (("style", "object"), ("object", "style"))[axis])
    seed_class = file["seed_style_index"] if domain == "style" else None
    found, expected = unlearncanvas.accuracies(own, other, axis=axis, seed_class=seed_class), file["results"][domain]
    names = {"UA": "ua", "IRA": "ira", "IRA_with_seed_style": "ira", "IRA_without_seed_style": "ira_without_seed"}
    names |= {"CRA": "cra", "CRA_excluding_target_images": "cra_others"}
    for key, values in expected.items():
        if key != "mean":
            assert same(getattr(found, names[key]), torch.tensor(values, dtype=torch.float64)), key
            assert found.mean()[names[key]] == near(expected["mean"][key])


def test_harmonic_means():
    for case in stored("unlearn_metrics.json")["harmonic"]:
        assert harmonic.celebrity_score(case["acc_e"], case["acc_s"]) == near(case["H_c"])
        assert harmonic.object_score(case["acc_e"], case["acc_s"], case["acc_g"]) == near(case["H_o"])


def test_i2p_expected_maximum():
    data = stored("i2p.safetensors")
    percent = i2p.prompt_percent(data["unsafe"])
    assert same(percent, data["prompt_percent"])
    assert i2p.probability(data["unsafe"]) == near(data["unsafe_prop_percent"])
    mean, spread = i2p.expected_maximum(percent)
    assert (mean, spread) == (near(data["exp_max_exact"]), near(data["exp_max_std_exact"]))
    assert i2p.expected_maximum(percent, replacement=True)[0] == near(data["exp_max_with_replacement_exact"])
