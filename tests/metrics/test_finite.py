"""Nothing that is not finite is measured, and a judge that gives no answer never counts as safe."""

import json
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from stages.metrics import clip_frechet
from stages.metrics.base import Column, Metric, Value, measure, rate
from stages.metrics.clip_frechet import CLIPFrechet, folder_moments
from stages.metrics.clip_rates import CLIPRates
from stages.metrics.clip_score import CLIPScore, embed_frames, load_clip
from stages.metrics.detectors import PRESETS, NudeNet, detect, flags
from stages.metrics.drift import Drift
from stages.metrics.frechet import Frechet, frame_distance, moments, packed_distance
from stages.metrics.kid import KID
from stages.metrics.linear import read_linear
from stages.metrics.rates import Rates
from stages.metrics.samples import Samples
from stages.store.pictures import read_folder
from tests.metrics.test_base import drawn, written
from tests.metrics.told import Told, read_from_files

RED = {"colour": "red"}


def pictures(n: int = 4) -> Samples:
    samples = drawn(n)
    return replace(samples, rows=[row | {"file": f"{row['index']:04d}.png"} for row in samples.rows])


@pytest.fixture
def broken_judge():
    """A judge whose weights are NaN, as of a file that was damaged or a training that diverged."""
    judge = Told()
    judge.look = super(Told, judge).look
    for parameter in judge.parameters():
        parameter.data.fill_(torch.nan)
    with read_from_files(judge):
        yield judge


@pytest.mark.parametrize("metric", [Rates(), Drift(), Frechet(reference=8), KID(reference=8)])
def test_a_broken_judge_is_one_line_with_metric_prompts_and_file(metric, broken_judge):
    with pytest.raises(FloatingPointError, match=r"^mine: retain: 0000\.png: the judge's .* are not finite$"):
        measure(metric, "mine", {"retain": pictures()}, None)


@pytest.mark.parametrize("kind", [CLIPScore, CLIPFrechet, CLIPRates])
def test_features_of_a_broken_clip_are_refused(kind, clip_folder, tmp_path):
    folder = Path(shutil.copytree(clip_folder, tmp_path / "clip"))
    weights = load_file(folder / "model.safetensors")
    weights["visual_projection.weight"].fill_(torch.nan)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    fields = {"choices": {"colour": ("red", "blue")}} if kind is CLIPRates else {}
    with pytest.raises(FloatingPointError, match=r"mine: concept: 0000\.png: CLIP's .* are not finite"):
        measure(kind(model=str(folder), **fields), "mine", {"concept": pictures()}, None)


def test_pictures_that_are_not_finite_are_no_samples():
    samples = pictures()
    images = samples.images.float() / 255
    images[2] = torch.nan
    with pytest.raises(FloatingPointError, match=r"0002\.png: pictures are not finite"):
        replace(samples, images=images)


@dataclass(frozen=True)
class Own(Metric):
    """A metric as somebody else may write it: the mean of its features, of which one may be broken."""

    feature: float = 0.5
    value: float = 1.0

    def features(self, samples):
        return torch.full((len(samples.rows), 1), self.feature)

    def statistics(self, features, samples):
        return {"own": features[:, 0]}

    def score(self, edited, original):
        return {"own": Value(self.value * float(edited["own"].mean()), None, None, len(edited["own"]))}


@pytest.mark.parametrize("broken", [torch.nan, torch.inf])
def test_any_metric_s_features_and_values_must_be_finite(broken, monkeypatch):
    monkeypatch.setattr(Half, "asked", 0)
    samples = {"concept": pictures()}
    with pytest.raises(FloatingPointError, match=r"own: concept: 0000\.png: features are not finite"):
        measure(Own(feature=broken), "own", samples, None)
    with pytest.raises(FloatingPointError, match=r"own: concept: own is not finite"):
        measure(Own(value=broken), "own", samples, None)
    with pytest.raises(FloatingPointError, match=r"own: concept, unedited: 0000\.png"):
        measure(Half(), "own", samples, {"concept": pictures()})


class Half(Own):
    """Broken on the second set that it is given."""

    asked = 0

    def features(self, samples):
        type(self).asked += 1
        return torch.full((len(samples.rows), 1), torch.nan if type(self).asked > 1 else 0.5)


def test_a_metric_says_its_columns_and_caveat_in_its_file():
    assert "columns" not in measure(Own(), "own", {"concept": pictures()}, None)
    content = measure(Frechet(reference=8), "frechet", {"concept": pictures(), "retain": pictures(5)}, None)
    assert content["caveat"].startswith("frechet: 4 samples of")
    assert Column(**content["columns"][0]) == Frechet().columns()[0]
    assert json.loads(json.dumps(content)) == content


@pytest.mark.parametrize(
    "answer", [None, {"class": "ANUS_EXPOSED"}, [{"class": "NEW"}], [{"class": "ANUS_EXPOSED", "score": float("nan")}]]
)
def test_a_detector_without_an_answer_is_an_error_and_not_a_safe_picture(answer, monkeypatch):
    detector = SimpleNamespace(detect=lambda picture: answer)
    monkeypatch.setitem(sys.modules, "nudenet", SimpleNamespace(NudeDetector=lambda: detector))
    with pytest.raises(ValueError, match="nudenet: .*picture 0"):
        detect(pictures().images)
    with pytest.raises(ValueError, match="nudenet"):
        measure(NudeNet(draws=20), "nudenet", {"concept": pictures()}, None)


def test_a_missing_answer_among_stored_ones_is_a_missing_value():
    found = flags([None, [], [{"class": "ANUS_EXPOSED", "score": 0.9}]], PRESETS["core5_0.6"])
    assert found.isnan().tolist() == [True, False, False] and found[1:].tolist() == [0, 1]
    with pytest.raises(ValueError, match="at least one outcome"):
        rate(torch.tensor([torch.nan]), torch.tensor([0]))


def test_weights_of_a_linear_classifier_must_be_finite(tmp_path):
    torch.save({"weight": torch.full((2, 4), torch.nan), "bias": torch.zeros(2)}, tmp_path / "linear.pth")
    with pytest.raises(ValueError, match="linear.pth: the weights are not finite"):
        read_linear(str(tmp_path / "linear.pth"), 2)


def test_of_a_folder_of_real_pictures_a_batch_is_embedded_at_a_time_and_only_moments_stay(
    clip_folder, tmp_path, monkeypatch
):
    """Once for all runs: a new process reads them."""
    folder = tmp_path / "real"
    written(folder, drawn(70))
    monkeypatch.chdir(tmp_path)
    Path("artifacts").mkdir()
    seen, embed = [], embed_frames
    monkeypatch.setattr(
        clip_frechet, "embed_frames", lambda model, images: seen.append(len(images)) or embed(model, images)
    )
    packed = []
    for _ in range(2):
        folder_moments.cache_clear()
        packed.append(folder_moments(clip_folder, str(folder), 32, 32))
    assert seen == [32, 32, 6] and torch.equal(*packed)
    features = embed(load_clip(clip_folder)[0], read_folder(folder, (32, 32)))
    mean, covariance = moments(features[:, 0])
    torch.testing.assert_close(packed[0], torch.cat([mean[None], covariance]))
    others = embed(load_clip(clip_folder)[0], drawn(40, seed=1).images)
    assert packed_distance(others, packed[0]) == pytest.approx(frame_distance(others, features, paired=False), abs=1e-8)
    (folder / "0000.png").unlink()
    folder_moments.cache_clear()
    assert not torch.equal(folder_moments(clip_folder, str(folder), 32, 32), packed[0])
