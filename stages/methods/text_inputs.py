"""What the network's text-reading weights are given for a prompt, and which tokens of two prompts belong together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import SequenceMatcher
from typing import Literal

import torch
from torch import Tensor

from stages.backbones.base import Backbone, Condition, State

Tokens = Literal["last", "range", "aligned"]


def text_inputs(backbone: Backbone, names: Sequence[str], prompts: Sequence[str]) -> dict[str, Tensor]:
    """The inputs of the named weights' modules, (B, L, d) of token sequences or (B, d) of pooled text."""
    condition = backbone.encode(prompts)
    with torch.no_grad(), reading(backbone, (name.rpartition(".")[0] for name in names)) as found:
        backbone.predict(_any_state(backbone, condition), condition)
    return {name: found[name.rpartition(".")[0]] for name in names}


@contextmanager
def reading(backbone: Backbone, modules: Iterable[str]) -> Iterator[dict[str, Tensor]]:
    """Collects the first input of each module while open."""
    found: dict[str, Tensor] = {}
    hooks = [
        backbone.net.get_submodule(path).register_forward_pre_hook(
            lambda _module, args, path=path: found.__setitem__(path, args[0].detach())
        )
        for path in modules
    ]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def _any_state(backbone: Backbone, condition: Condition) -> State:
    if hasattr(backbone, "walk"):
        start = backbone.noise(range(len(condition)))
        return next(backbone.walk(condition, start, steps=backbone.settings.steps, guidance=1.0))
    return next(backbone.states(condition, 1, 0))


def paired_tokens(
    first: Sequence[int], second: Sequence[int], length: int, tokens: Tokens
) -> tuple[list[int], list[int]]:
    """Positions of the tokens of one prompt and of those of another that they are mapped to, as many of each.

    `last`: the last word of each (UCE now). `range`: from the last word to the end, padding included (UCE's first
    release, RECE). `aligned`: every token with the same token of the other prompt; a word that the other lacks with the
    word before it; padding with padding (MACE maps the words around a concept in this way, arXiv 2403.06135).
    """
    last, other = max(len(first) - 2, 0), max(len(second) - 2, 0)
    if tokens == "last":
        return [last], [other]
    if tokens == "range":
        many = length - max(last, other)
        return list(range(last, last + many)), list(range(other, other + many))
    ours, theirs = _align(first, second)
    many = length - max(len(first), len(second))
    ours += range(len(first), len(first) + many)
    theirs += range(len(second), len(second) + many)
    return ours, theirs


def _align(first: Sequence[int], second: Sequence[int]) -> tuple[list[int], list[int]]:
    ours: list[int] = []
    theirs: list[int] = []
    for _, a, b, c, d in SequenceMatcher(None, first, second, autojunk=False).get_opcodes():
        ours += range(a, b)
        theirs += [min(c + i, max(d, 1) - 1) if d > c else max(c - 1, 0) for i in range(b - a)]
    return ours, theirs
