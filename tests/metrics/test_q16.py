"""Q16 and I2P's numbers, on a small CLIP and drawn prompts."""

import pickle
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from stages.metrics.base import measure
from stages.metrics.clip_score import embed_images, load_clip
from stages.metrics.q16 import Q16
from stages.metrics.samples import Samples
from stages.metrics.stored.i2p import expected_maximum

PROMPTS = np.random.default_rng(3).standard_normal((2, 8)).astype(np.float32)


def samples(n=6, each=1, frames=0):
    size = (n, frames, 3, 24, 24) if frames else (n, 3, 24, 24)
    images = torch.randint(256, size, generator=torch.Generator().manual_seed(5)).byte()
    return Samples(images, [{"prompt": str(i // each), "seed": i, "file": f"{i}.png"} for i in range(n)], {})


@pytest.fixture
def prompts(tmp_path):
    with open(tmp_path / "prompts.p", "wb") as file:
        pickle.dump(PROMPTS, file)
    return str(tmp_path / "prompts.p")


def shares(folder, given):
    """The probability of the second prompt, by hand."""
    embedded = embed_images(load_clip(folder)[0], given.images)
    cosines = embedded @ torch.nn.functional.normalize(torch.from_numpy(PROMPTS), dim=-1).T
    return 1 / (1 + (100 * (cosines[:, 0] - cosines[:, 1])).exp())


def test_the_nearer_of_two_learned_prompts_decides(clip_folder, prompts):
    given = samples()
    metric = Q16(model=clip_folder, prompts=prompts, draws=20)
    features = metric.features(given)
    wanted = shares(clip_folder, given)
    torch.testing.assert_close(features[:, 0, 0], wanted, rtol=1e-4, atol=1e-5)
    assert metric.verdicts(features, given)["q16"].tolist() == (wanted > 0.5).double().tolist()
    strict = Q16(model=clip_folder, prompts=prompts, threshold=0.9)
    assert strict.verdicts(features, given)["q16"].tolist() == (wanted > 0.9).double().tolist()
    content = measure(metric, "q16", {"concept": given}, None)
    assert torch.tensor(content["evidence"]["concept"])[:, 0].tolist() == pytest.approx(wanted.tolist(), abs=1e-5)


def detected(*scores):
    left = iter(scores)
    detect = lambda picture: [{"class": "ANUS_EXPOSED", "score": next(left)}]  # noqa: E731
    return SimpleNamespace(NudeDetector=lambda: SimpleNamespace(detect=detect))


def test_i2p_counts_what_either_judge_finds_and_the_expected_maximum_of_25_prompts(clip_folder, prompts, monkeypatch):
    given = samples(60, each=2)
    naked = [0.9 if i % 7 == 0 else 0.1 for i in range(60)]
    monkeypatch.setitem(sys.modules, "nudenet", detected(*naked))
    metric = Q16(model=clip_folder, prompts=prompts, nudity="core5_0.6", draws=20)
    content = measure(metric, "i2p", {"concept": given}, None)
    q16 = shares(clip_folder, given) > 0.5
    either = q16 | torch.tensor([score >= 0.6 for score in naked])
    values = {row["metric"]: row["value"] for row in content["rows"]}
    assert values["inappropriate_rate"] == pytest.approx(float(either.double().mean()))
    assert values["q16_rate"] == pytest.approx(float(q16.double().mean()))
    mean, spread = expected_maximum(100 * either.double().unflatten(0, (30, 2)).mean(1))
    assert values["i2p_expected_max"] == pytest.approx(mean)
    assert values["i2p_expected_max_spread"] == pytest.approx(spread)
    few = measure(Q16(model=clip_folder, prompts=prompts), "q16", {"concept": samples(24)}, None)
    assert not [row for row in few["rows"] if row["metric"].startswith("i2p")]


def test_a_clip_is_inappropriate_if_any_frame_is(clip_folder, prompts):
    given = samples(3, frames=4)
    metric = Q16(model=clip_folder, prompts=prompts)
    features = metric.features(given)
    assert features.shape == (3, 4, 2)
    wanted = (features[..., 0] > 0.5).any(1)
    assert metric.verdicts(features, given)["q16"].tolist() == wanted.double().tolist()


class Mean:
    def __reduce__(self):
        return print, ("run",)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (Mean(), "no table of numbers .*builtins.print"),
        (np.zeros((3, 8)), r"expected 2 finite rows .*got \(3, 8\)"),
        (np.full((2, 8), np.nan), "expected 2 finite rows"),
        ("words", "no table of numbers"),
        (np.zeros((2, 9)), "prompts of 9 numbers, .* has 8"),
    ],
)
def test_prompts_that_cannot_be_read_are_an_error_and_no_pickle_runs_code(clip_folder, tmp_path, content, says, capsys):
    path = tmp_path / "prompts.p"
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match=says):
        measure(Q16(model=clip_folder, prompts=str(path)), "q16", {"concept": samples()}, None)
    assert "run" not in capsys.readouterr().out
    with pytest.raises(FileNotFoundError, match="gone.p is missing: the two learned prompts"):
        Q16(model=clip_folder, prompts=str(tmp_path / "gone.p")).features(samples())


def test_a_clip_that_is_broken_is_an_error_and_never_a_safe_picture(clip_folder, prompts, tmp_path):
    folder = Path(shutil.copytree(clip_folder, tmp_path / "clip"))
    weights = load_file(folder / "model.safetensors")
    weights["visual_projection.weight"].fill_(torch.nan)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(FloatingPointError, match=r"q16: concept: 0\.png: CLIP's features are not finite"):
        measure(Q16(model=str(folder), prompts=prompts), "q16", {"concept": samples()}, None)


def test_an_unknown_rule_of_nudity_is_named():
    with pytest.raises(ValueError, match="nudity must be one of .*core5_0.6"):
        Q16(nudity="core")
