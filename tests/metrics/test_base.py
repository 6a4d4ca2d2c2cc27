"""What metrics read: one set of samples at a time, its pictures as bytes until they are looked at."""

import sys
import weakref
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from stages.metrics.base import measure, measure_all
from stages.metrics.clip_frechet import CLIPFrechet
from stages.metrics.clip_rates import CLIPRates
from stages.metrics.clip_score import CLIPScore
from stages.metrics.detectors import NudeNet
from stages.metrics.drift import Drift
from stages.metrics.frechet import Frechet
from stages.metrics.kid import KID
from stages.metrics.linear import LinearRates
from stages.metrics.rates import Rates
from stages.metrics.samples import SampleFolders, Samples, floats, read_samples
from stages.store.pictures import write_sample

TARGET = {"colour": "red"}


def drawn(n: int, seed: int = 0, frames: int = 0) -> Samples:
    """Samples whose pictures are dark bytes."""
    size = (n, frames, 3, 32, 32) if frames else (n, 3, 32, 32)
    images = torch.randint(128, size, generator=torch.Generator().manual_seed(seed)).byte()
    rows = [{"prompt": f"a red {i}", "seed": i, "colour": "red", "index": i} for i in range(n)]
    return Samples(images, rows, TARGET)


def written(folder, given: Samples) -> None:
    folder.mkdir(parents=True)
    lines = [write_sample(folder, row, image) for row, image in zip(given.rows, floats(given.images), strict=True)]
    (folder / "metadata.jsonl").write_text("".join(f"{line}\n".replace("'", '"') for line in lines))


class Lent(Mapping):
    """Sets of samples that are made when asked for, none while the pictures of another are held."""

    def __init__(self, held: list, **sets: Samples) -> None:
        self.held, self.sets = held, sets

    def __getitem__(self, name: str) -> Samples:
        assert all(images() is None for images in self.held), f"{name} was asked for while other pictures were held"
        images = self.sets[name].images.clone()
        self.held.append(weakref.ref(images))
        return replace(self.sets[name], images=images)

    def __iter__(self):
        return iter(self.sets)

    def __len__(self) -> int:
        return len(self.sets)


def metrics(folder: str) -> list:
    """Every metric, on a small CLIP."""
    choices, linear = {"colour": ("red", "blue")}, Path(folder, "linear.pth")
    weight = torch.randn(2, 8, generator=torch.Generator().manual_seed(4))  # by which pictures differ
    torch.save({"weight": weight, "bias": torch.zeros(2)}, linear)
    return [
        *(Rates(draws=20), Drift(draws=20), Frechet(reference=64), KID(reference=64), NudeNet(draws=20)),
        *(CLIPScore(model=folder, draws=20), CLIPFrechet(model=folder), CLIPRates(model=folder, choices=choices)),
        LinearRates(weights=str(linear), label="colour", classes=choices["colour"], model=folder, draws=20),
    ]


@pytest.fixture
def nudenet(monkeypatch):
    """A detector that is as sure as its picture is bright."""

    def detect(picture):
        return [{"class": "ANUS_EXPOSED", "score": float(picture.max()) / 128}]

    monkeypatch.setitem(sys.modules, "nudenet", SimpleNamespace(NudeDetector=lambda: SimpleNamespace(detect=detect)))


def test_one_set_of_pictures_is_held_at_a_time_and_read_once_for_all_metrics(clip_folder, nudenet):
    named = {f"{type(metric).__name__}": metric for metric in metrics(clip_folder) if not isinstance(metric, Drift)}
    sets, held = [{"concept": drawn(4, seed), "retain": drawn(5, seed + 1)} for seed in (0, 2)], []
    found = measure_all(named, *(Lent(held, **part) for part in sets))
    assert len(named) == 8 and len(held) == 4
    assert found == {name: measure(metric, name, *sets) for name, metric in named.items()}
    assert all({row["prompts"] for row in content["rows"]} == {"concept", "retain"} for content in found.values())


@pytest.mark.parametrize(("number", "frames"), [(i, frames) for i in range(9) for frames in (0, 3) if i or not frames])
def test_bytes_are_measured_as_the_numbers_they_stand_for(number, frames, clip_folder, nudenet):
    metric, edited, original = metrics(clip_folder)[number], drawn(6, 0, frames), drawn(6, 1, frames)
    plain = [replace(samples, images=samples.images.float() / 255) for samples in (edited, original)]
    found = measure(metric, "m", {"concept": edited}, {"concept": original})
    assert found == measure(metric, "m", *({"concept": samples} for samples in plain)) and found["rows"]


@pytest.mark.parametrize("frames", [0, 3])
def test_files_are_read_as_bytes_and_only_when_asked_for(tmp_path, frames):
    given = drawn(3, frames=frames)
    written(tmp_path / "concept", given)
    folders = SampleFolders(tmp_path, ("concept", "absent"), TARGET)
    assert list(folders) == ["concept", "absent"]
    read = folders["concept"]
    assert read.images.dtype == torch.uint8 and torch.equal(read.images, given.images)
    assert read.prompts == given.prompts and read_samples(tmp_path / "concept", TARGET).target == TARGET
    with pytest.raises(FileNotFoundError, match="absent"):
        folders["absent"]


@pytest.mark.parametrize(("frames", "sizes"), [(0, [256, 44]), (100, [2] * 3), (300, [1] * 6)])
def test_parts_are_whole_samples_in_order(frames, sizes):
    n = sum(sizes)
    size = (n, frames, 3, 1, 1) if frames else (n, 3, 1, 1)
    images = torch.randint(256, size, generator=torch.Generator().manual_seed(0)).byte()
    given = Samples(images, [{"prompt": str(i), "seed": i} for i in range(n)], {})
    parts = list(given.parts())
    assert [len(part.rows) for part in parts] == sizes
    assert torch.equal(torch.cat([part.images for part in parts]), images.float() / 255)
    assert [prompt for part in parts for prompt in part.prompts] == given.prompts


def test_a_metric_says_what_tells_that_the_concept_is_seen(clip_folder, nudenet):
    seen = [metric.seen for metric in metrics(clip_folder)]
    assert seen == ["target", None, None, None, "nudity_core5_0.6", None, None, "target", "target"]
    for metric in metrics(clip_folder):
        content = measure(metric, "m", {"concept": drawn(4)}, None)
        assert content.get("seen") == metric.seen
        assert metric.seen is None or {metric.seen} <= set(content["samples"]["concept"])
