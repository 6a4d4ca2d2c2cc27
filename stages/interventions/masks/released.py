"""Mask files as the authors of arXiv 2507.13386 released them: a list of tensors in order of calls, without names."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from stages.interventions.masks.mask import Mask, Mode, Place
from stages.interventions.masks.places import Family, find_places, sizes

if TYPE_CHECKING:
    from stages.backbones.core.base import Backbone

KEYS: Mapping[str, Family] = {"attn": "heads", "ff": "ff", "norm": "norm", "linear": "linear"}


def read_released(
    files: Mapping[str, Path],
    backbone: Backbone,
    forward: Callable[[], Any] | None = None,
    *,
    mode: Mode = "thresholded",
    linear: str = ".*",
) -> Mask:
    """A mask from files by hook (attn, ff, norm, linear); ValueError when a list does not fit the network.

    The reference numbers linear layers in order of calls, which `forward` (one call of the network) finds out.
    """
    scores: dict[str, Tensor] = {}
    places: dict[str, tuple[Place, ...]] = {}
    for key, path in files.items():
        if key not in KEYS:
            raise ValueError(f"masks of {key!r} are unknown; there are {', '.join(KEYS)}")
        found = find_places(backbone, [KEYS[key]], linear)  # fused feed-forwards are left alone there
        names = list(found)
        if key == "linear":
            if forward is None:
                raise ValueError("linear masks are numbered in order of calls: pass a call of the network")
            names = call_order(backbone.net, names, forward)
        scores |= named(read_list(Path(path)), names, sizes(backbone, found), str(path))
        places |= {name: found[name] for name in names}
    return Mask(scores, places, mode)


def read_list(path: Path) -> list[Tensor]:
    """The tensors of one file, float32 on the CPU; ValueError for anything else than a list of tensors."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(f"{path}: not a list of tensors ({str(error).splitlines()[0]})") from None
    if not isinstance(content, list) or not all(isinstance(value, Tensor) for value in content):
        raise ValueError(f"{path}: expected a list of tensors, got {type(content).__name__}")
    return [value.detach().float() for value in content]


def named(values: Sequence[Tensor], names: Sequence[str], widths: Mapping[str, int], where: str) -> dict[str, Tensor]:
    """Tensors under the names of the places they belong to; ValueError names the first that does not fit."""
    if len(values) != len(names):
        raise ValueError(f"{where}: {len(values)} masks for {len(names)} places")
    for value, name in zip(values, names, strict=True):
        if tuple(value.shape) != (widths[name],):
            raise ValueError(f"{where}: {name} has {widths[name]} channels, the mask's shape is {tuple(value.shape)}")
    return dict(zip(names, values, strict=True))


def call_order(net: nn.Module, paths: Iterable[str], forward: Callable[[], Any]) -> list[str]:
    """The modules in the order in which one forward calls them first (a UNet registers down, up, mid)."""
    order: dict[str, None] = {}

    def note(path: str) -> Callable[..., None]:
        return lambda *_: order.setdefault(path)

    handles = [net.get_submodule(path).register_forward_pre_hook(note(path)) for path in paths]
    try:
        with torch.no_grad():
            forward()
    finally:
        for handle in handles:
            handle.remove()
    return list(order)
