"""Every file of params/metrics on a few pictures and clips: built, run, and the same whatever the order of samples.

A file is found by its name. What is large in it (CLIP, many draws and renders) is replaced by something small, and the
names that it chooses among by the colours of the world.
"""

import dataclasses
import sys
import weakref
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from stages.metrics.base import measure, measure_all
from stages.metrics.classifiers import Classified
from stages.metrics.inception import Inception
from stages.metrics.linear import LinearRates
from stages.metrics.q16 import Q16
from stages.metrics.samples import Samples
from stages.params import build, load_params, names
from tests.metrics.told import NAMES

COLOURS, SHAPES = (values[:-1] for values in NAMES.values())
# the last has no file: a documented experiment asks for it; `motion` refuses pictures, see test_motion
METRICS = [*(name for name in names("metrics") if name != "motion"), "linear"]


@pytest.fixture
def small(clip_folder, classifier_folder, inception_file, monkeypatch):
    """A metric by its name, on a small CLIP and with a detector that is as sure as its picture is bright."""

    def detect(picture):
        return [{"class": "ANUS_EXPOSED", "score": float(picture.max()) / 128}]

    monkeypatch.setitem(sys.modules, "nudenet", SimpleNamespace(NudeDetector=lambda: SimpleNamespace(detect=detect)))
    values = {"draws": 20, "reference": 64, "model": clip_folder, "choices": {"colour": COLOURS}}

    def make(name):
        metric = linear(clip_folder) if name == "linear" else build(load_params("metrics", name), name)
        if isinstance(metric, Classified):
            network = {"model": classifier_folder, "weights": ""}
            metric = dataclasses.replace(
                metric, **network, classes={"colour": dict(zip(COLOURS, range(9), strict=False))}, draws=20
            )
            return metric
        if isinstance(metric, Inception):
            metric = dataclasses.replace(metric, weights=inception_file)
        if isinstance(metric, Q16):
            metric = dataclasses.replace(metric, prompts=two_prompts(clip_folder))
        have = {field.name for field in dataclasses.fields(metric)}
        return dataclasses.replace(metric, **{key: value for key, value in values.items() if key in have})

    return make


def two_prompts(folder):
    """Q16's learned prompts in numpy's format, in the place of those that nobody has here."""
    path = Path(folder, "prompts.npy")
    np.save(path, np.random.default_rng(0).standard_normal((2, 8)).astype(np.float32))
    return str(path)


def linear(folder):
    path = Path(folder, "linear.pth")
    weight = torch.randn(2, 8, generator=torch.Generator().manual_seed(4))  # by which pictures differ
    torch.save({"weight": weight, "bias": torch.zeros(2)}, path)
    return LinearRates(weights=str(path), label="colour", classes=("red", "blue"))


def drawn(n, seed=0, frames=0):
    """Samples whose pictures are dark bytes."""
    size = (n, frames, 3, 32, 32) if frames else (n, 3, 32, 32)
    images = torch.randint(128, size, generator=torch.Generator().manual_seed(seed)).byte()
    asked = [{"colour": COLOURS[i % len(COLOURS)], "shape": SHAPES[i % len(SHAPES)]} for i in range(n)]
    rows = [{"prompt": f"a red {i}", "seed": i, "index": i, **labels} for i, labels in enumerate(asked)]
    return Samples(images, rows, {"colour": "red"})


def pair(frames=0):
    """Edited and unedited samples of the same prompts."""
    return [drawn(6, seed, frames) for seed in (0, 1)]


@pytest.mark.parametrize("frames", [0, 3])
@pytest.mark.parametrize("name", METRICS)
def test_a_metric_answers_with_numbers_and_with_the_outcome_that_shows_the_concept(small, name, frames):
    metric = small(name)
    edited, original = pair(frames)
    content = measure(metric, name, {"concept": edited}, {"concept": original})
    assert content["rows"] and all(row["value"] == row["value"] for row in content["rows"])
    assert content.get("seen") == metric.seen
    assert metric.seen is None or metric.seen in content["samples"]["concept"]
    alone = measure(metric, name, {"concept": edited}, None)
    assert {row["metric"] for row in alone["rows"]} <= {row["metric"] for row in content["rows"]}


@pytest.mark.parametrize("name", METRICS)
def test_a_value_does_not_depend_on_the_order_of_samples(small, name):
    metric = small(name)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(1)).tolist()
    values = []
    for rows in (range(6), order):
        sets = [
            dataclasses.replace(samples, images=samples.images[list(rows)], rows=[samples.rows[i] for i in rows])
            for samples in pair()
        ]
        content = measure(metric, name, *({"concept": samples} for samples in sets))
        values.append({row["metric"]: row["value"] for row in content["rows"]})
    assert values[1] == pytest.approx(values[0], rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("frames", [0, 3])
@pytest.mark.parametrize("name", METRICS)
def test_bytes_are_measured_as_the_numbers_they_stand_for(small, name, frames):
    metric = small(name)
    sets = pair(frames)
    plain = [dataclasses.replace(samples, images=samples.images.float() / 255) for samples in sets]
    contents = [measure(metric, name, *({"concept": samples} for samples in given)) for given in (sets, plain)]
    assert contents[0] == contents[1]


class Lent(Mapping):
    """Sets of samples that are made when asked for, none while the pictures of another are held."""

    def __init__(self, held, **sets):
        self.held, self.sets = held, sets

    def __getitem__(self, name):
        assert all(images() is None for images in self.held), f"{name} was asked for while other pictures were held"
        images = self.sets[name].images.clone()
        self.held.append(weakref.ref(images))
        return dataclasses.replace(self.sets[name], images=images)

    def __iter__(self):
        return iter(self.sets)

    def __len__(self):
        return len(self.sets)


def test_one_set_of_pictures_is_held_at_a_time_and_read_once_for_all_metrics(small):
    metrics = {name: small(name) for name in METRICS if name != "drift"}  # drift keeps the pictures that it compares
    sets = [{"concept": drawn(4, seed), "retain": drawn(5, seed + 1)} for seed in (0, 2)]
    held = []
    contents = measure_all(metrics, *(Lent(held, **part) for part in sets))
    assert len(held) == 4
    assert contents == {name: measure(metric, name, *sets) for name, metric in metrics.items()}
    assert all({row["prompts"] for row in content["rows"]} == {"concept", "retain"} for content in contents.values())
