"""The Frechet distance of CLIP's picture features: to the unedited samples, and to a folder of real pictures.

For models that were trained in no world. Features are CLIP's unit vectors, as in CMMD (arXiv 2401.09603), which finds
them to follow what people see more closely than Inception's; numbers are not those of the usual FID.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from stages.metrics.base import Column, Metric, Statistics, Value
from stages.metrics.clip_score import BATCH, embed_frames, embed_samples, load_clip
from stages.metrics.distances import distances
from stages.metrics.frechet import frame_distance, lacks_rank, packed_distance
from stages.metrics.references import kept, stamps, streamed_moments
from stages.metrics.samples import Samples, finite
from stages.params.project import located
from stages.params.source import code
from stages.params.types import Folder
from stages.store.pictures import each_picture


@dataclass(frozen=True)
class CLIPFrechet(Metric):
    """Frechet distances of CLIP's features, to the unedited samples and to real pictures.

    They grow as samples get fewer, so compare equal n only.
    """

    SIZES = True

    seed: int = 0  # of the jackknife
    model: str = "openai/clip-vit-base-patch32"  # folder or hub id of a CLIP
    real: Folder = ""  # folder of pictures, cropped and resized to the samples' size; empty for no such distance

    def features(self, samples: Samples) -> Tensor:
        """Unit vectors (N, F, D), F = 1 for pictures; FloatingPointError if one is not finite."""
        return finite(embed_samples(load_clip(self.model)[0], samples), samples, "CLIP's features")

    def statistics(self, features: Tensor, samples: Samples) -> Statistics:
        if not self.real:
            return {"features": features}
        if samples.sizes:
            raise ValueError("real: its pictures are fitted to the samples' size, and these are of several")
        return {"features": features, "real": folder_moments(self.model, self.real, *samples.images.shape[-2:])}

    def score(self, edited: Statistics, original: Statistics | None) -> dict[str, Value]:
        options: dict[str, Any] = {"seed": self.seed, "least": 0.0, "to_kept": packed_distance}
        return distances("clip_frechet", frame_distance, edited, original, **options)

    def caveat(self, features: Tensor) -> str | None:
        return lacks_rank("clip_frechet", features)

    def columns(self) -> tuple[Column, ...]:
        return (
            Column("retain", "clip_frechet_real", "CLIP Fréchet to real", "low"),
            Column("retain", "clip_frechet_unedited", "CLIP Fréchet to unedited", "low", unedited=True),
        )


@lru_cache(maxsize=4)
def folder_moments(model: str, folder: str, height: int, width: int) -> Tensor:
    """The mean and, below it, the covariance of CLIP's features of a folder's pictures at (height, width), (1 + D, D).

    The pictures are read a batch at a time, once for all runs: the moments are kept on disk. FileNotFoundError for a
    folder without pictures, FloatingPointError for features that are not finite.
    """
    asked = {"of": "clip_frechet", "model": model, "size": [height, width], "files": stamps(located(folder))}
    asked |= {"code": code(f"{__name__}.CLIPFrechet")}

    def make() -> dict[str, Tensor]:
        mean, covariance = streamed_moments(_features(model, folder, height, width))
        return {"moments": torch.cat([mean[None], covariance])}

    return kept(asked, make)["moments"]


def _features(model: str, folder: str, height: int, width: int) -> Iterator[Tensor]:
    clip = load_clip(model)[0]
    for batch in _batches(each_picture(folder, (height, width))):
        features = embed_frames(clip, batch)[:, 0]
        if not features.isfinite().all():
            raise FloatingPointError(f"{folder}: CLIP's features of its pictures are not finite")
        yield features


def _batches(pictures: Iterator[Tensor]) -> Iterator[Tensor]:
    while batch := list(islice(pictures, BATCH)):
        yield torch.stack(batch)
