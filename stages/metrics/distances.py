"""What metrics that compare sets of features share: what is compared with what, and the intervals."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from stages.metrics.base import Statistics, Value
from stages.metrics.intervals import jackknife


class Distance(Protocol):
    """A distance between features (N, F, D) and (M, F, D) of clips; a picture is a clip of one frame.

    `paired` clips are of the same prompt and noise.
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
) -> dict[str, Value]:
    """Returns NAME_real, from the features to real ones where there are any, and NAME_unedited; {} of a single sample.

    No interval reaches below `least`. FloatingPointError for features that are not finite.
    """
    own = edited["features"]
    for what, features in {"edited": own, **{k: edited[k] for k in ("real",) if k in edited}}.items():
        if not torch.isfinite(features).all():
            raise FloatingPointError(f"{name}: the features of the {what} pictures are not finite")
    if len(own) < 2:
        return {}

    def to_real(rows: Tensor) -> float:
        return distance(own[rows], edited["real"], paired=False)

    def to_unedited(rows: Tensor) -> float:
        return distance(own[rows], original["features"][rows], paired=True)

    kinds = {"real": to_real} if "real" in edited else {}
    kinds |= {"unedited": to_unedited} if original is not None else {}
    return {f"{name}_{kind}": _value(compared, len(own), seed, least) for kind, compared in kinds.items()}


def _value(distance: Callable[[Tensor], float], n: int, seed: int, least: float) -> Value:
    low, high = jackknife(distance, n, seed=seed)
    return Value(distance(torch.arange(n)), low if low is None else max(low, least), high, n)
