"""Which weights a method trains, under the names that ESD's two code lineages gave to the choices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import nn

from stages.backbones.core.base import Backbone

Released = Literal["x", "x_strict", "u", "all"]
Lineage = Literal["xattn", "noxattn", "selfattn", "xattn_matching", "full", "notime", "xlayer", "selflayer"]
Group = Literal["cross-attn", "attn", "full-weight"]
Train = Released | Lineage | Group

DENSE = (nn.Linear, nn.Conv2d)
BLOCKS = {"xlayer": (10, 12), "selflayer": (2, 4)}  # two transformer blocks of Stable Diffusion 1, in execution order


def choose(backbone: Backbone, train: Train, blocks: Sequence[int] = ()) -> list[str]:
    """Names of the parameters of a choice, only of some blocks if asked; ValueError if none are left.

    Released ESD: `x` cross-attention, `x_strict` its keys and values, `u` every other linear or convolution layer,
    `all` both. The paper's scripts: `xattn` is x; `noxattn` everything but cross-attention, time embedding and output
    layers, norms included; `notime` the same with cross-attention; `full`; `selfattn`; `xattn_matching` queries, keys
    and values; `xlayer` and `selflayer` two blocks of one. Concept Ablation: `cross-attn` keys and values, `attn` both
    attentions, `full-weight`. A network without cross-attention trains its joint attention instead.
    """
    names = _blocks(backbone, _choose(backbone, train), blocks or BLOCKS.get(train, ()))
    if not names:
        raise ValueError(f"{backbone.name} has no weights for train: {train}, blocks: {list(blocks)}")
    return names


def _choose(backbone: Backbone, train: Train) -> list[str]:
    if train in ("x_strict", "cross-attn"):
        return backbone.weights("cross_attn", "attn", projections=("key", "value"))
    if train == "xattn_matching":
        return backbone.weights("cross_attn", "attn", projections=("query", "key", "value"))
    if train in ("selfattn", "selflayer"):
        return backbone.weights("attn")
    everything = [name for name, _ in backbone.net.named_parameters()]
    if train in ("full", "full-weight"):
        return everything
    cross = backbone.weights("cross_attn", "attn")
    if train == "attn":
        names = {*cross, *backbone.weights("attn")}
    elif train in ("all", "u"):
        names = _dense(backbone) - (set(cross) if train == "u" else set())
    elif train in ("notime", "noxattn"):
        names = {n for n in everything if not n.startswith(backbone.ENDS)}
        names -= set(cross) if train == "noxattn" else set()
    else:
        return cross
    return [name for name in everything if name in names]


def _dense(backbone: Backbone) -> set[str]:
    layers = (path for path, module in backbone.net.named_modules() if isinstance(module, DENSE))
    return {f"{path}.{name}" for path in layers for name in backbone.net.get_submodule(path)._parameters}


def _blocks(backbone: Backbone, names: list[str], blocks: Sequence[int]) -> list[str]:
    if not blocks:
        return names
    inside = tuple(f"{tap.module}." for site, tap in backbone.sites.items() if site.block in blocks)
    return [name for name in names if name.startswith(inside)]
