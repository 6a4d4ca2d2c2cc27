"""The inputs of weights that read text, and which tokens of two prompts belong together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import SequenceMatcher
from typing import Any, Literal

import torch
from torch import Tensor

from stages.backbones.core.base import Backbone
from stages.backbones.core.capabilities import Bits, Walks, needs
from stages.backbones.text.texts import Tokenize
from stages.control.state import Condition, State

Tokens = Literal["last", "range", "aligned", "around"]


def text_inputs(backbone: Backbone, names: Sequence[str], prompts: Sequence[str]) -> dict[str, list[Tensor]]:
    """The inputs of the named weights' modules for each prompt, (L, d) of token sequences or (d,) of pooled text.

    The network runs on one prompt. If it hands these modules its condition as it is, the rest is read off that, so that
    hundreds of prompts are cheap; if not, it runs on all of them.
    """
    whole, modules = backbone.encode(prompts), {name: name.rpartition(".")[0] for name in names}
    read: dict[str, list[Tensor]] = {name: [] for name in names}
    with torch.no_grad(), reading(backbone, modules.values()) as inputs:

        def run(rows: slice) -> Condition:
            condition = whole.rows(rows)
            backbone.predict(_any_state(backbone, condition), condition)
            return condition

        one = run(slice(0, 1))
        passed = _handed_on(one, {name: inputs[module] for name, module in modules.items()})
        if passed:
            return {name: list(whole.tensors[passed[name]]) for name in names}
        for rows in backbone.settings.batches(len(whole)):
            run(rows)
            for name, module in modules.items():
                read[name] += inputs[module]
    return read


def _handed_on(condition: Condition, inputs: Mapping[str, Tensor]) -> dict[str, str]:
    """By name, the condition's tensor that each input is bit for bit; empty unless all of them are one."""
    equal = {
        name: next((key for key, tensor in condition.tensors.items() if _identical(value, tensor)), None)
        for name, value in inputs.items()
    }
    return {name: key for name, key in equal.items() if key} if all(equal.values()) else {}


def _identical(value: Tensor, other: Tensor) -> bool:
    return value.dtype == other.dtype and value.device == other.device and torch.equal(value, other)


@contextmanager
def reading(backbone: Backbone, modules: Iterable[str]) -> Iterator[dict[str, Tensor]]:
    """Collects the first input of each module while open, by the module's path."""
    inputs: dict[str, Tensor] = {}
    hooks = [
        backbone.net.get_submodule(path).register_forward_pre_hook(
            lambda _module, args, path=path: inputs.__setitem__(path, args[0].detach())
        )
        for path in modules
    ]
    try:
        yield inputs
    finally:
        for hook in hooks:
            hook.remove()


def _any_state(backbone: Backbone, condition: Condition) -> State:
    if isinstance(backbone, Walks):
        start = backbone.noise(range(len(condition)))
        return next(backbone.walk(condition, start, steps=backbone.settings.steps, guidance=1.0))
    bits = needs(backbone, Bits, "choose a method that trains")
    net: Any = backbone.net
    size = (len(condition), sum(bits.schedule.lengths), net.config.bits)
    return bits.forced(
        torch.zeros(size, dtype=torch.uint8, device=backbone.device)
    )  # text is read whatever the picture


def paired_rows(
    backbone: Backbone, first: Sequence[str], second: Sequence[str], tokens: Tokens
) -> list[tuple[list[int], list[int]]]:
    """`paired_tokens` of each prompt and its twin, as rows of the text embedding, for one encoder after another."""
    pairs: list[tuple[list[int], list[int]]] = [([], []) for _ in first]
    for begin, length, tokenize in _segments(backbone):
        for (ours, theirs), a, b in zip(pairs, tokenize(first), tokenize(second), strict=True):
            pair = paired_tokens(a, b, max(len(a), len(b)) if length is None else length, tokens)
            for rows, positions in zip((ours, theirs), pair, strict=True):
                rows += [begin + position for position in positions]
    return pairs


def kept_rows(backbone: Backbone, prompts: Sequence[str], tokens: Tokens) -> list[list[slice]]:
    """Rows of each prompt's text embedding to preserve, by encoder: only the last word's for `last`, otherwise all."""
    rows: list[list[slice]] = [[] for _ in prompts]
    for begin, length, tokenize in _segments(backbone):
        for spans, ids in zip(rows, tokenize(prompts), strict=True):
            last = begin + max(len(ids) - 2, 0)
            whole = slice(begin, begin + (len(ids) if length is None else length))
            spans.append(slice(last, last + 1) if tokens == "last" else whole)
    return rows


def _segments(backbone: Backbone) -> Iterator[tuple[int, int | None, Tokenize]]:
    """Where each encoder's rows begin, how many there are (None: padding is not read), and its tokens of prompts."""
    empty = backbone.encode([""]).tensors
    for encoder in backbone.texts.starts:
        at = backbone.texts.segment(encoder, empty["embeds"].shape[1])
        yield at.begin, None if "mask" in empty else at.length, at.tokenize


def paired_tokens(
    first: Sequence[int], second: Sequence[int], length: int, tokens: Tokens
) -> tuple[list[int], list[int]]:
    """Positions of the tokens of one prompt and of those of another that they are mapped to, as many of each.

    `last`: the last word of each (UCE's code). `range`: from the last word to the end, padding included (RECE, and an
    earlier form of UCE's code). `aligned`: every token with the same token of the other prompt; a word that the other
    lacks with the word before it; padding with padding. `around`: the tokens that both begin with, and those from the
    end that both have in common on, padding included, but none of the words between, which are the concept's own (MACE,
    arXiv 2403.06135).
    """
    last, other = max(len(first) - 2, 0), max(len(second) - 2, 0)
    if tokens == "last":
        return [last], [other]
    if tokens == "range":
        many = length - max(last, other)
        return list(range(last, last + many)), list(range(other, other + many))
    if tokens == "around":
        return _around(first, second, length)
    ours, theirs = _align(first, second)
    many = length - max(len(first), len(second))
    ours += range(len(first), len(first) + many)
    theirs += range(len(second), len(second) + many)
    return ours, theirs


def _around(first: Sequence[int], second: Sequence[int], length: int) -> tuple[list[int], list[int]]:
    shorter = min(len(first), len(second))
    before = next((i for i in range(shorter) if first[i] != second[i]), shorter)
    after = next((i for i in range(shorter - before) if first[-1 - i] != second[-1 - i]), shorter - before)
    starts = len(first) - after, len(second) - after
    many = length - max(starts)
    ours, theirs = ([*range(before), *range(start, start + many)] for start in starts)
    return ours, theirs


def _align(first: Sequence[int], second: Sequence[int]) -> tuple[list[int], list[int]]:
    ours: list[int] = []
    theirs: list[int] = []
    for _, a, b, c, d in SequenceMatcher(None, first, second, autojunk=False).get_opcodes():
        ours += range(a, b)
        theirs += [min(c + i, max(d, 1) - 1) if d > c else max(c - 1, 0) for i in range(b - a)]
    return ours, theirs
