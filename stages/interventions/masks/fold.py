"""Masks written into plain weights, so that the erased model is an ordinary checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from stages.control.sites import Tap
from stages.interventions.masks.mask import Mask
from stages.interventions.masks.places import share, tap_of
from stages.interventions.weights import Weights

if TYPE_CHECKING:
    from stages.backbones.core.base import Backbone


@torch.no_grad()
def folded(mask: Mask, backbone: Backbone) -> Weights:
    """Weights of the same effect: a channel's mask multiplies the rows and bias that make it, or the columns that read
    it.

    Exact for a binary mask. ValueError for a mask that changes with every draw, and if two streams share a layer of
    which only one is masked.
    """
    if mask.mode == "hard_concrete":
        raise ValueError("a hard concrete mask has no fixed weights: binarize it first")
    values: dict[str, Tensor] = {}
    for name in mask.names:
        taps = [tap_of(backbone, place) for place in mask.places[name]]
        _check_whole(backbone, name, taps)
        for tap in dict.fromkeys((tap.module, tap.when) for tap in taps):
            _scale(values, backbone, Tap(*tap), mask.mask(name))
    return Weights(values)


def _scale(values: dict[str, Tensor], backbone: Backbone, tap: Tap, mask: Tensor) -> None:
    found = share(backbone.net, tap)
    factor = mask.repeat_interleave(found.width // len(mask))
    for leaf in ("weight", "bias") if found.axis == "rows" else ("weight",):
        name = f"{found.module}.{leaf}"
        if getattr(backbone.net.get_submodule(found.module), leaf, None) is None:
            continue
        value = values.get(name, backbone.addresses.parameter(name)).float().clone()
        if found.axis == "columns":
            value[:, found.start : found.stop] *= factor.to(value).reshape(-1, *[1] * (value.ndim - 2))
        else:
            value *= factor.to(value).reshape(-1, *[1] * (value.ndim - 1))
        values[name] = value


def _check_whole(backbone: Backbone, name: str, taps: list[Tap]) -> None:
    """A layer treats all tokens with the same weights, so a mask on one stream of two cannot be folded."""
    for tap in taps:
        here = (tap.module, tap.when)
        alive = {t.tokens for t in backbone.sites.values() if (t.module, t.when) == here} - {(0, None)}
        missed = alive - {t.tokens for t in taps if (t.module, t.when) == here}
        if missed and tap.tokens != (0, None):
            raise ValueError(f"{name} masks tokens {tap.tokens} of {tap.module} alone, which weights cannot do")
