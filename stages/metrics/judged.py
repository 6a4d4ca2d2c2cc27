"""The judges of the small worlds as metrics read them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, ClassVar

import torch
from torch import Tensor

from stages import seeds
from stages.metrics.base import Metric, Statistics
from stages.metrics.references import kept, stamps
from stages.metrics.samples import Samples, finite, floats, frames
from stages.params.project import located
from stages.params.source import code
from stages.params.types import Count
from stages.seeds import Purpose
from stages.worlds import by_name
from stages.worlds.by_name import Judge

JUDGE = "artifacts/worlds/{world}/judge"
WORLDS = ("shapes", "scenes")
PAIR = "pair"  # a label that is colour and shape, or object, at once, such as `red circle`
REAL = 1  # the index of the renders that features are compared with; 0 trains backbones


@cache
def load_judge(folder: str) -> Judge:
    """A saved judge, loaded once; ValueError names a file that is damaged."""
    return by_name.load_judge(located(folder))


def judge_features(judge: str, samples: Samples) -> Tensor:
    """The judge's standardised features (N, F, D), F = 1 for pictures; FloatingPointError if one is not finite."""
    features = [load_judge(judge).features(floats(part)) for part in frames(samples.images).split(256)]
    return finite(torch.cat(features).unflatten(0, (len(samples.images), -1)), samples, "the judge's features")


def real_features(judge: str, samples: Samples, n: int, seed: int) -> Tensor:
    """The features (M, F, D) of real renders of the samples' labels, of at least `n` frames.

    Each row is rendered as often as the others, whatever their order; a label that it leaves open is drawn evenly. They
    are computed once for all runs that ask for the same, and kept on disk.
    """
    drawn = load_judge(judge).drawn
    rows = [_apart(row, drawn) for row in samples.rows]
    asked = tuple(sorted(tuple(str(row.get(label, "")) for label in drawn) for row in rows))
    clip = samples.images.shape[1] if samples.images.ndim == 5 else None
    return _real_features(load_judge(judge), judge, asked, samples.images.shape[-1], clip, n, seed)


@dataclass(frozen=True)
class Judged(Metric):
    """The features of a distance by the judge: those of the samples, and those of real renders."""

    WORLDS: ClassVar[tuple[str, ...]] = WORLDS

    seed: int = 0  # of the renders and of the jackknife
    judge: str = JUDGE  # folder of the judge; {world}: of the backbone's world
    reference: Count = 2048  # frames of real renders, at least

    def features(self, samples: Samples) -> Tensor:
        """Standardised features (N, F, D)."""
        return judge_features(self.judge, samples)

    def statistics(self, features: Tensor, samples: Samples) -> Statistics:
        return {"features": features, "real": real_features(self.judge, samples, self.reference, self.seed)}


def _apart(row: Mapping[str, Any], drawn: Sequence[str]) -> Mapping[str, Any]:
    """The row with the labels of its pair, if it has one: the first two of those that are `drawn`."""
    return {**row, **dict(zip(drawn, row[PAIR].split(), strict=False))} if row.get(PAIR) else row


@lru_cache(maxsize=16)
def _real_features(
    judge: Judge, folder: str, asked: tuple[tuple[str, ...], ...], size: int, clip: int | None, n: int, seed: int
) -> Tensor:
    def make() -> dict[str, Tensor]:
        return {"features": _rendered(judge, asked, size, clip, n, seed)}

    files = stamps(located(folder))
    if not files:
        return make()["features"]
    key = {"of": "judge", "files": files, "asked": asked, "size": size, "clip": clip, "n": n, "seed": seed}
    return kept(key | {"code": code(f"{__name__}.Judged")}, make)["features"]


def _rendered(
    judge: Judge, asked: tuple[tuple[str, ...], ...], size: int, clip: int | None, n: int, seed: int
) -> Tensor:
    generator = seeds.generator(Purpose.WORLD, seed, REAL)
    rows = [dict(zip(judge.drawn, labels, strict=True)) for labels in asked * -(-n // (len(asked) * (clip or 1)))]
    images = judge.world(size).renders(rows, generator, clip)
    return judge.features(frames(images)).unflatten(0, (-1, clip or 1))
