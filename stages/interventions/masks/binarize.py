"""Scores of a mask to zeros and ones: by threshold or by ratio, per layer, per family or across all; and merging."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Literal, get_args

import torch
from torch import Tensor

from stages.interventions.masks.mask import Mask
from stages.interventions.masks.places import family_of

Scope = Literal["local", "global", "across"]


def above(scores: Sequence[Tensor], threshold: float = 0.0) -> list[Tensor]:
    """1 where the score is above the threshold."""
    return [(score > threshold).float() for score in scores]


def positive(scores: Sequence[Tensor]) -> list[Tensor]:
    """Scores with the negative ones at 0: the released loader's form for masks that stay continuous."""
    return [score.clamp(min=0) for score in scores]


def top(scores: Sequence[Tensor], ratio: float, scope: Literal["local", "global"] = "local") -> list[Tensor]:
    """1 for the highest share `ratio` of each layer's scores (local) or of all together (global).

    Keeps int(n ratio) of n; among equal scores the first ones. A ratio too small for one score keeps none.
    """
    if not 0 <= ratio <= 1:
        raise ValueError(f"ratio must be in [0, 1], got {ratio}")
    if scope == "local":
        return [_top(score, ratio) for score in scores]
    flat = _top(torch.cat([score.flatten() for score in scores]), ratio)
    parts = flat.split([score.numel() for score in scores])
    return [part.reshape(score.shape) for part, score in zip(parts, scores, strict=True)]


def binarized(
    mask: Mask, scope: Scope = "local", ratio: float | Mapping[str, float] | None = None, threshold: float = 0.0
) -> Mask:
    """The mask in binary mode: scores above the threshold, or the top `ratio` (of each family, when it is a mapping).

    `local` ranks within each layer, `global` within each family of layers, `across` over all families together.
    """
    if scope not in get_args(Scope):
        raise ValueError(f"scope must be one of {', '.join(get_args(Scope))}, got {scope!r}")
    if scope == "across" and isinstance(ratio, Mapping):
        raise ValueError("a ratio across families is one number")
    groups: dict[str, list[str]] = {}
    for name in mask.names:
        groups.setdefault("all" if scope == "across" else family_of(mask.places[name]), []).append(name)
    scores, values = dict(mask.items()), dict[str, Tensor]()
    for family, names in groups.items():
        own = [scores[name].detach().float() for name in names]
        share = ratio.get(family) if isinstance(ratio, Mapping) else ratio
        made = above(own, threshold) if share is None else top(own, share, "local" if scope == "local" else "global")
        values |= dict(zip(names, made, strict=True))
    return mask.with_scores(values, "binary")


def merge(masks: Sequence[Mask]) -> Mask:
    """One binary mask that removes what any of the binary masks removes: several concepts at once."""
    for mask in masks:
        if mask.mode != "binary" or any(((value != 0) & (value != 1)).any() for _, value in mask.items()):
            raise ValueError("only binary masks can be merged: binarize them first")
    return reduce(_both, masks)


def kept_shares(mask: Mask) -> dict[str, float]:
    """The share of numbers above 0 in each family, for records."""
    counts: dict[str, list[int]] = {}
    for name, score in mask.items():
        count = counts.setdefault(family_of(mask.places[name]), [0, 0])
        count[0] += int((score > 0).sum())
        count[1] += score.numel()
    return {family: round(open_ / total, 4) for family, (open_, total) in counts.items()}


def _top(score: Tensor, ratio: float) -> Tensor:
    kept = int(score.numel() * ratio)
    order = score.flatten().sort(descending=True, stable=True).indices[:kept]
    result = torch.zeros(score.numel(), device=score.device)
    result[order] = 1.0
    return result.reshape(score.shape)


def _both(first: Mask, second: Mask) -> Mask:
    a, b, places = dict(first.items()), dict(second.items()), {**first.places, **second.places}
    either = a | b
    for name in a.keys() & b.keys():
        if a[name].shape != b[name].shape or first.places[name] != second.places[name]:
            raise ValueError(f"masks of {name} differ in size or place: they are of different backbones")
    values = {name: a[name] * b[name] if name in a and name in b else either[name] for name in places}
    return Mask(values, places, "binary")
