"""Distances between the features of pictures and those of a folder of real ones, or of the unedited samples.

Each number carries in its name what it was compared with and of how many pictures it is: a Frechet distance grows as
pictures get fewer, so that two of other N say nothing beside each other.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stages.metrics.base import Column, Metric, Statistics, Value
from stages.metrics.references import kept, stamps
from stages.metrics.samples import Samples, finite, frames
from stages.params.project import located
from stages.params.source import code
from stages.params.types import Folder, Natural
from stages.store.pictures import each_picture, to_pixels

BATCH = 32  # pictures whose features are computed at once
REAL = "real."  # before the names of the reference's statistics


@dataclass(frozen=True)
class Compared(Metric):
    """Distances without intervals, NAME_REFERENCE_nN: N pictures, or frames of clips, against each reference."""

    real: Folder = ""  # folder of real pictures; empty for the distance to the unedited samples alone
    name: str = ""  # what `real` is called in names, such as coco30k; empty for the folder's name
    n: Natural = 0  # pictures of the retained set, whose numbers are columns; 0 for columns of every number

    def __post_init__(self) -> None:
        if self.called == "unedited":
            raise ValueError("name must not be 'unedited', which is what the unedited samples are called")

    @property
    def called(self) -> str:
        """What the real pictures are called, in lower case without signs."""
        return re.sub(r"\W+", "_", self.name or Path(self.real).name).lower()

    @abstractmethod
    def embed(self, images: Tensor) -> Tensor:
        """The features (B, D) of pictures of bytes (B, 3, H, W), on the CPU."""

    @abstractmethod
    def summary(self, features: Tensor) -> Statistics:
        """What `between` reads of features (N, D)."""

    @abstractmethod
    def between(self, edited: Statistics, other: Statistics) -> dict[str, float]:
        """Each distance of two summaries, by name."""

    @abstractmethod
    def heads(self) -> Mapping[str, str]:
        """The heads of the columns of each distance."""

    @property
    def network(self) -> list[Any]:
        """Primitives that decide the features, as part of what cached references are found by."""
        return []

    def features(self, samples: Samples) -> Tensor:
        """Features (N, F, D), F = 1 for pictures; FloatingPointError if one is not finite."""
        parts = torch.cat([self.embed(in_bytes(part)) for part in frames(samples.images).split(BATCH)])
        return finite(parts.unflatten(0, (len(samples.images), -1)), samples)

    def statistics(self, features: Tensor, samples: Samples) -> Statistics:
        found = self.summary(features.flatten(0, 1))
        return found | {f"{REAL}{name}": value for name, value in (folder_summary(self) if self.real else {}).items()}

    def score(self, edited: Statistics, original: Statistics | None) -> dict[str, Value]:
        n = len(edited["features"])
        if n < 2:
            return {}
        real = {name.removeprefix(REAL): value for name, value in edited.items() if name.startswith(REAL)}
        others = ({self.called: real} if real else {}) | ({} if original is None else {"unedited": original})
        return {
            f"{name}_{called}_n{n}": Value(value, None, None, n)
            for called, other in others.items()
            for name, value in self.between(edited, other).items()
        }

    def columns(self) -> tuple[Column, ...] | None:
        if not self.n:
            return None
        called = {self.called: self.name or self.called} if self.real else {}
        return tuple(
            Column(
                "retain", f"{name}_{key}_n{self.n}", f"{head} to {of}, N = {self.n:,}", "low", unedited=key == UNEDITED
            )
            for key, of in (called | {UNEDITED: UNEDITED}).items()
            for name, head in self.heads().items()
        )


UNEDITED = "unedited"


@lru_cache(maxsize=4)
def folder_summary(metric: Compared) -> Statistics:
    """The summary of the folder of real pictures, which are read a batch at a time, once for all runs.

    FileNotFoundError for a folder without pictures, ValueError for one of a single picture, FloatingPointError for
    features that are not finite.
    """
    kind = f"{type(metric).__module__}.{type(metric).__name__}"
    asked = {"of": kind, "network": metric.network, "files": stamps(located(metric.real)), "code": code(kind)}

    def summary() -> Statistics:
        features = torch.cat(list(_features(metric, metric.real)))
        if len(features) < 2:
            raise ValueError(f"{metric.real}: a distance needs two pictures at least")
        return metric.summary(features)

    return kept(asked, summary)


def in_bytes(images: Tensor) -> Tensor:
    """Pictures (N, 3, H, W), bytes or in [0, 1], as the bytes that a file holds."""
    return images if images.dtype == torch.uint8 else torch.from_numpy(to_pixels(images)).movedim(-1, -3)


def _features(metric: Compared, folder: str) -> Iterator[Tensor]:
    """Of pictures of any size, which are embedded together if they are alike."""
    for batch in _alike(each_picture(folder)):
        features = metric.embed(in_bytes(torch.stack(batch)))
        if not features.isfinite().all():
            raise FloatingPointError(f"{folder}: the features of its pictures are not finite")
        yield features


def _alike(pictures: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """Consecutive pictures of one size, at most a batch of them."""
    pictures = iter(pictures)
    batch = list(islice(pictures, 1))
    for picture in pictures:
        if len(batch) == BATCH or picture.shape != batch[0].shape:
            yield batch
            batch = []
        batch.append(picture)
    if batch:
        yield batch
