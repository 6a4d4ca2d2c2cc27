"""Metrics that compare sets of features: their pairs of sets, and the intervals."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from stages.metrics.base import Statistics, Value
from stages.metrics.intervals import jackknife


class Distance(Protocol):
    """A distance between features (N, F, D) and (M, F, D) of clips; a picture is a clip of one frame.

    `paired` clips are of the same prompt and noise, row by row.
    """

    def __call__(self, x: Tensor, y: Tensor, *, paired: bool) -> float: ...


def distances(
    name: str,
    distance: Distance,
    edited: Statistics,
    original: Statistics | None,
    *,
    seed: int,
    least: float = float("-inf"),
    to_kept: Callable[[Tensor, Tensor], float] | None = None,
) -> dict[str, Value]:
    """NAME_real, to the `real` features if there are any, and NAME_unedited, to the original's; {} for one sample.

    No interval reaches below `least`. If of the real ones only statistics are kept, `to_kept` takes features and those.
    """
    features = edited["features"]
    if len(features) < 2:
        return {}

    def to_real(rows: Tensor) -> float:
        if to_kept is not None:
            return to_kept(features[rows], edited["real"])
        return distance(features[rows], edited["real"], paired=False)

    kinds = {"real": to_real} if "real" in edited else {}
    if original is not None:
        unedited = original["features"]
        kinds["unedited"] = lambda rows: distance(features[rows], unedited[rows], paired=True)
    return {f"{name}_{kind}": _value(compared, len(features), seed, least) for kind, compared in kinds.items()}


def _value(distance: Callable[[Tensor], float], n: int, seed: int, least: float) -> Value:
    low, high = jackknife(distance, n, seed=seed)
    return Value(distance(torch.arange(n)), low if low is None else max(low, least), high, n)
