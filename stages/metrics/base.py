"""The three steps of a metric, what it reads and what it answers."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stages.store.pictures import read_metadata, read_picture

Statistics = dict[str, Tensor]
Asked = tuple[str, int]  # prompt and seed

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Samples:
    """Pictures (N, 3, H, W) or clips (N, F, 3, H, W) of one prompt set, and what was asked for.

    `images` are bytes, as files hold them, or numbers in [0, 1]: `floats` and `parts` make numbers of a few at a time.
    `rows` are their lines of metadata.jsonl (prompt, seed, labels); `target` are the labels of the concept.
    """

    images: Tensor
    rows: Sequence[Mapping[str, Any]]
    target: Mapping[str, str]

    def __post_init__(self) -> None:
        if len(self.images) != len(self.rows) or not len(self.rows):
            raise ValueError(f"expected samples and a row for each, got {len(self.images)}, {len(self.rows)}")
        if self.images.is_floating_point() and not torch.isfinite(self.images).all():
            raise FloatingPointError("samples that are not finite cannot be measured")

    @property
    def prompts(self) -> list[str]:
        return [str(row["prompt"]) for row in self.rows]

    def parts(self, frames: int = 256) -> Iterator[Samples]:
        """Yields a few whole samples at a time in [0, 1]: at most `frames` pictures, but at least one sample."""
        size = max(1, frames // (self.images.shape[1] if self.images.ndim == 5 else 1))
        for first in range(0, len(self.rows), size):
            few = slice(first, first + size)
            yield replace(self, images=floats(self.images[few]), rows=self.rows[few])


def floats(images: Tensor) -> Tensor:
    """Returns pictures in [0, 1]: bytes are divided by 255, numbers left as they are."""
    return images.float() / 255 if images.dtype == torch.uint8 else images


@dataclass(frozen=True)
class SampleFolders(Mapping[str, Samples]):
    """The prompt sets of one run, each read when it is asked for and not kept: one of clips can fill the memory."""

    folder: Path
    names: Sequence[str]
    target: Mapping[str, str]

    def __getitem__(self, name: str) -> Samples:
        return read_samples(self.folder / name, self.target)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class Value:
    """A measured number, its 95 % interval where it has one, and how many samples it is from."""

    value: float
    ci_low: float | None
    ci_high: float | None
    n: int


class Metric(ABC):
    """Features of samples, statistics of features, values of statistics."""

    @property
    def seen(self) -> str | None:
        """The outcome that says whether a sample shows the concept; None where nothing does."""
        return None

    @abstractmethod
    def features(self, samples: Samples) -> Tensor:
        """Returns what is costly to compute and worth sharing, one row per sample."""

    @abstractmethod
    def statistics(self, features: Tensor, samples: Samples) -> Statistics:
        """Returns what the values are made of."""

    @abstractmethod
    def score(self, edited: Statistics, original: Statistics | None) -> dict[str, Value]:
        """Returns the values by name; those that compare are left out where there is no original."""

    def outcomes(self, edited: Statistics, original: Statistics | None) -> dict[str, Tensor]:
        """Returns what was found on each sample, (N,) by name; a rate's name is without `_rate`."""
        return {}

    def evidence(self, features: Tensor) -> Any:
        """Returns what should be stored raw, as primitives, so that other rules can be applied to it later."""
        return None


def measure(
    metric: Metric, name: str, edited: Mapping[str, Samples], original: Mapping[str, Samples] | None
) -> dict[str, Any]:
    """Returns the content of a metric's JSON file: a row per value and prompt set, and each sample's outcomes."""
    return measure_all({name: metric}, edited, original)[name]


def measure_all(
    metrics: Mapping[str, Metric], edited: Mapping[str, Samples], original: Mapping[str, Samples] | None
) -> dict[str, dict[str, Any]]:
    """Returns each metric's content by name.

    Asks for each set once, one after the other, and keeps none, but for what a metric's statistics hold of it. Samples
    of one prompt and seed are one picture and count once; each still has its outcomes and its evidence.
    """
    contents = {name: {"metric": name, "rows": [], "samples": {}} for name in metrics}
    for prompts in edited:
        asked, found, raw = _described(metrics, edited[prompts])
        once = first_of(asked)
        if len(set(once)) < len(once):
            log.warning("%s: %d samples are %d different pictures", prompts, len(once), len(set(once)))
        twins = dict.fromkeys(metrics)
        if original is not None:
            asked_of_twins, twins, _ = _described(metrics, original[prompts])
            check_twins(asked, asked_of_twins, prompts)
        for name, metric in metrics.items():
            content, pair = contents[name], (found[name], twins[name])
            values = metric.score(*pair).items()
            content["rows"] += [{"prompts": prompts, "metric": key, **asdict(value)} for key, value in values]
            outcomes = metric.outcomes(*pair).items()
            content["samples"][prompts] = {key: _listed(values[list(once)]) for key, values in outcomes}
            if raw[name] is not None:
                content.setdefault("evidence", {})[prompts] = raw[name]
    seen = {name: {"seen": metric.seen} if metric.seen else {} for name, metric in metrics.items()}
    return {name: content | seen[name] for name, content in contents.items()}


def check_twins(edited: Sequence[Asked], original: Sequence[Asked], prompts: str) -> None:
    """Raises a ValueError when two sets of samples are not of the same prompts and seeds in the same order."""
    if edited != original:
        shorter = min(len(edited), len(original))
        first = next((i for i in range(shorter) if edited[i] != original[i]), shorter)
        raise ValueError(f"{prompts}: sample {first} is not of the same prompt and seed as the unedited backbone's")


def read_samples(folder: str | Path, target: Mapping[str, str]) -> Samples:
    """Returns the samples of one folder that stages.sample wrote, their images as bytes.

    FileNotFoundError or ValueError names the file that is missing, damaged or of another size.
    """
    folder = Path(folder)
    rows = tuple(read_metadata(folder))
    images = [(255 * read_picture(folder, row)).round().byte() for row in rows]
    for image, row in zip(images, rows, strict=True):
        if image.shape != images[0].shape:
            sizes = f"{tuple(image.shape)} instead of {tuple(images[0].shape)}"
            raise ValueError(f"{folder / row['file']}: of another size than the first sample: {sizes}")
    if not images:
        raise ValueError(f"{folder / 'metadata.jsonl'}: no samples in it")
    return Samples(torch.stack(images), rows, target)


def first_of(asked: Sequence[Asked]) -> list[int]:
    """Returns for each sample the number of its picture among the different ones, in order of appearance."""
    numbers: dict[Asked, int] = {}
    return [numbers.setdefault(one, len(numbers)) for one in asked]


def _different(samples: Samples, once: Sequence[int]) -> Samples:
    """Returns the first sample of each picture."""
    rows = [once.index(number) for number in range(max(once) + 1)]
    if len(rows) == len(once):
        return samples
    return replace(samples, images=samples.images[rows], rows=[samples.rows[i] for i in rows])


def _described(
    metrics: Mapping[str, Metric], samples: Samples
) -> tuple[list[Asked], dict[str, Statistics], dict[str, Any]]:
    """Returns a set's prompts and seeds, and by metric the statistics of its pictures and what should be stored raw."""
    asked = [(row["prompt"], row["seed"]) for row in samples.rows]
    once = first_of(asked)
    different = _different(samples, once)
    features = {name: metric.features(different) for name, metric in metrics.items()}
    statistics = {name: metric.statistics(features[name], different) for name, metric in metrics.items()}
    return asked, statistics, {name: metric.evidence(features[name][once]) for name, metric in metrics.items()}


def _listed(values: Tensor) -> list[float | None]:
    """Returns plain numbers; what was not asked for (NaN) is None."""
    return [None if value != value else round(value, 6) for value in values.tolist()]
