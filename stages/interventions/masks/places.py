"""The places of masks in a network, their sizes, and the linear layer that each can be folded into."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from torch import nn

from stages.control.sites import Site, Tap
from stages.interventions.masks.mask import Place

if TYPE_CHECKING:
    from stages.backbones.core.base import Backbone

# `ff`: the `hidden` ones of feed-forwards that are layers of their own, without those that are fused with an attention.
Family = Literal["heads", "hidden", "ff", "norm", "linear"]
FUSED = ".act_mlp"  # of Flux's single blocks: the activation that the projection reads beside the attention
JOINED = ".net.0"  # of a diffusers feed-forward: its activation, which the linear layer at .net.2 reads


@dataclass(frozen=True)
class Share:
    """The part of a module's weights that a mask at a tap multiplies: rows of its output or columns of its input."""

    module: str
    axis: Literal["rows", "columns"]
    start: int
    stop: int

    @property
    def width(self) -> int:
        """Channels."""
        return self.stop - self.start


def find_places(backbone: Backbone, families: Iterable[Family], linear: str = ".*") -> dict[str, tuple[Place, ...]]:
    """The masks of the chosen families: name to places, in order of execution (linear: in order of registration).

    Both streams share the mask of a joint attention's heads and of a feed-forward that serves both. Norms are those
    with weights (or the layer that modulates them), of the text stream where there is one. `linear` is a regular
    expression that a linear layer's path must match from its start.
    """
    found: dict[str, tuple[Place, ...]] = {}
    for family in families:
        chosen = _linears(backbone.net, linear) if family == "linear" else _sites(backbone, family)
        if not chosen:
            raise ValueError(f"{backbone.name} has nothing to mask as {family}")
        found |= chosen
    return found


def family_of(places: Sequence[Place]) -> Family:
    """The family of a mask, from its places, `hidden` for those of `ff`; ValueError for an output that none masks."""
    first = places[0]
    if isinstance(first, Tap):
        return "linear"
    if first.kind.startswith("norm"):
        return "norm"
    if first.part == "out":
        raise ValueError(f"no family of masks has the place {first}")
    return first.part


def tap_of(backbone: Backbone, place: Place) -> Tap:
    """Where a mask's place is in the network."""
    return place if isinstance(place, Tap) else backbone.addresses.tap(place)


def sizes(backbone: Backbone, places: Mapping[str, Sequence[Place]]) -> dict[str, int]:
    """The numbers that each mask has: heads of an attention, channels elsewhere."""
    return {name: _size(backbone, group[0]) for name, group in places.items()}


def share(net: nn.Module, tap: Tap) -> Share:
    """The weights that a mask at `tap` multiplies; ValueError if no linear layer or norm with weights is next to it."""
    module = net.get_submodule(tap.module)
    if isinstance(module, nn.Linear):
        if tap.when == "input":
            return Share(tap.module, "columns", 0, module.in_features)
        return Share(tap.module, "rows", 0, module.out_features)
    if isinstance(module, nn.Conv2d) and tap.when == "input" and module.kernel_size == (1, 1):
        return Share(tap.module, "columns", 0, module.in_channels)
    weight = getattr(module, "weight", None)
    if tap.when == "output" and weight is not None and weight.ndim == 1:
        return Share(tap.module, "rows", 0, len(weight))
    if tap.when == "output" and tap.module.endswith(JOINED):
        reader = net.get_submodule(path := tap.module[:-1] + "2")
        if isinstance(reader, nn.Linear):
            return Share(path, "columns", 0, reader.in_features)
    parent, _, leaf = tap.module.rpartition(".")
    fused = getattr(net.get_submodule(parent), "proj_out", None)
    if tap.when == "output" and fused is not None and leaf in ("attn", "act_mlp"):
        middle = fused.out_features  # a fused block's projection reads attention, then feed-forward
        bounds = (0, middle) if leaf == "attn" else (middle, fused.in_features)
        return Share(f"{parent}.proj_out", "columns", *bounds)
    raise ValueError(f"the {tap.when} of {tap.module} is next to no linear layer or norm with weights")


def _sites(backbone: Backbone, family: Family) -> dict[str, tuple[Place, ...]]:
    if family == "norm":
        norms = [site for site in backbone.sites if site.kind.startswith("norm") and _foldable(backbone, site)]
        chosen = [site for site in norms if site.stream == "text"] or norms
        return {str(site): (site,) for site in chosen}
    if family == "ff":
        hidden = _sites(backbone, "hidden")
        return {k: v for k, v in hidden.items() if not tap_of(backbone, v[0]).module.endswith(FUSED)}
    groups: dict[tuple[object, ...], tuple[Site, ...]] = {}
    for site in (site for site in backbone.sites if site.part == family):
        key = (site.block, site.kind) if family == "heads" else (backbone.addresses.tap(site).module,)
        groups[key] = (*groups.get(key, ()), site)
    return {str(min(group)): group for group in groups.values()}


def _foldable(backbone: Backbone, site: Site) -> bool:
    try:
        return share(backbone.net, backbone.addresses.tap(site)).width > 0
    except ValueError:
        return False


def _linears(net: nn.Module, pattern: str) -> dict[str, tuple[Place, ...]]:
    try:
        wanted = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"linear: {pattern!r} is not a regular expression: {error}") from None
    paths = [path for path, module in net.named_modules() if isinstance(module, nn.Linear)]
    return {path: (Tap(path),) for path in paths if wanted.match(path)}


def _size(backbone: Backbone, place: Place) -> int:
    tap = tap_of(backbone, place)
    if isinstance(place, Site) and place.part == "heads":
        return _heads(backbone.net, tap.module)
    return share(backbone.net, tap).width


def _heads(net: nn.Module, path: str) -> int:
    """The heads that the module of a path, or the nearest one around it, has."""
    heads = getattr(net.get_submodule(path), "heads", None)
    if heads is not None:
        return int(heads)
    if not path:
        raise ValueError("no module around it says how many heads there are")
    return _heads(net, path.rpartition(".")[0])
