"""One address for every architecture: a Site names a tensor, a Tap says where a network keeps it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, cast, get_args

from torch import Tensor, nn

from stages.control.state import Condition
from stages.control.words import Prompt

Kind = Literal["norm", "attn", "dual_attn", "norm_cross", "cross_attn", "norm_ff", "ff", "block"]
Part = Literal["out", "heads", "hidden"]
Stream = Literal["image", "text", "encoder"]  # encoder: the text encoders' own blocks, see Addresses.text_sites


@dataclass(frozen=True, order=True)
class Site:
    """The address of one activation: block in order of execution, kind of layer, part of it, and stream.

    `heads` is the input of an attention's output projection, `hidden` the feed-forward's activation.
    """

    block: int
    kind: Kind
    part: Part = "out"
    stream: Stream = "image"

    def __str__(self) -> str:
        suffix = "" if self.stream == "image" else f"@{self.stream}"
        return f"{self.block}.{self.kind}.{self.part}{suffix}"

    @classmethod
    def parse(cls, text: str) -> Site:
        """Reads `7.cross_attn.out` or `3.ff.hidden@text`; ValueError says which words are allowed."""
        address, _, stream = text.partition("@")
        block, _, rest = address.partition(".")
        kind, _, part = rest.partition(".")
        site = (kind, part or "out", stream or "image")
        for value, allowed in zip(site, (get_args(Kind), get_args(Part), get_args(Stream)), strict=True):
            if value not in allowed:
                raise ValueError(f"site {text!r}: {value!r} must be one of {', '.join(allowed)}")
        if not block.isdigit():
            raise ValueError(f"site {text!r}: the block must be a number, got {block!r}")
        return cls(int(block), cast(Kind, kind), cast(Part, site[1]), cast(Stream, site[2]))


@dataclass(frozen=True)
class Tap:
    """The place of a site's tensor in one network."""

    module: str  # dotted path, for get_submodule
    when: Literal["input", "output"] = "output"
    item: int | None = None  # position in a tuple
    tokens: tuple[int, int | None] = (0, None)  # this stream's tokens where text and image share one sequence
    spatial: bool = False  # the tensor is (B, C, h, w); edits see it as tokens (B, h w, C)


@dataclass(frozen=True)
class Moment:
    """The knowledge of an edit: the sampler's step (Infinity's scale), the site, and which rows play which role."""

    step: int  # the call of the network in this run
    site: Site | None  # None for a tap without a site, and in edits of guidance
    roles: Mapping[str, slice]  # role -> its rows of the batch
    lengths: tuple[int, ...] = ()  # tokens of each step from `step` on, if one call computes several (all scales)
    prompts: tuple[Prompt, ...] = ()  # in a text encoder: the prompts that are encoded
    condition: Condition | None = None  # in the network: the run's own, a row for each row of every role

    def place(self) -> Site:
        """The site; ValueError for an edit of guidance, or at a tap that no site names."""
        if self.site is None:
            raise ValueError("this edit is of no site")
        return self.site

    def spans(self) -> list[tuple[int, slice]]:
        """Each step that the call computes, with its tokens."""
        if not self.lengths:
            return [(self.step, slice(None))]
        ends = list(itertools.accumulate(self.lengths))
        return [(self.step + i, slice(end - n, end)) for i, (end, n) in enumerate(zip(ends, self.lengths, strict=True))]

    def rows(self, role: str) -> slice:
        """The rows of `role`, an empty slice when the batch has none."""
        return self.roles.get(role, slice(0, 0))


Edit = Callable[[Tensor, Moment], Tensor]


def site_table(net: nn.Module, blocks: Iterable[str], rows: Mapping[str, Tap], first: int = 0) -> dict[Site, Tap]:
    """The address table of blocks that look alike: `rows` maps `attn.heads@text` to a tap inside one block.

    Rows whose module a block does not have are left out. Order of blocks and rows is the order of execution.
    """
    table: dict[Site, Tap] = {}
    for index, path in enumerate(blocks, first):
        inside = {name for name, _ in net.get_submodule(path).named_modules()}
        for address, tap in rows.items():
            if tap.module in inside:
                module = f"{path}.{tap.module}" if tap.module else path
                table[Site.parse(f"{index}.{address}")] = replace(tap, module=module)
    return table


def encoder_sites(encoders: Mapping[str, nn.Module]) -> dict[Site, Tap]:
    """The blocks of text encoders, numbered through; modules are named `text_encoder.encoder.layers.3`."""
    taps = []
    for part, encoder in encoders.items():
        for path in _stack(encoder):
            several = type(encoder.get_submodule(path)).__name__ == "T5Block"  # it returns a tuple
            taps.append(Tap(f"{part}.{path}", item=0 if several else None))
    return {Site(i, "block", stream="encoder"): tap for i, tap in enumerate(taps)}


def _stack(encoder: nn.Module) -> list[str]:
    lists = ((name, part) for name, part in encoder.named_modules() if isinstance(part, nn.ModuleList))
    name, blocks = next(lists, ("", ()))  # the outermost comes first
    return [f"{name}.{i}" for i in range(len(blocks))]


def select(sites: Iterable[Site], *kinds: Kind, part: Part = "out", stream: Stream | None = None) -> list[Site]:
    """The sites of the first of `kinds` that exists, in order of execution; KeyError when none does."""
    sites = list(sites)
    for kind in kinds:
        matching = [s for s in sites if s.kind == kind and s.part == part and stream in (None, s.stream)]
        if matching:
            return matching
    raise KeyError(f"no such site: {'/'.join(kinds)}.{part}; there is {summary(sites)}")


def lookup(sites: Mapping[Site, Tap], site: Site, owner: str) -> Tap:
    """The tap of `site`; KeyError names the sites of that layer that the network has instead."""
    if site in sites:
        return sites[site]
    near = [s for s in sites if s.kind == site.kind] or list(sites)
    raise KeyError(f"no such site: {site}; {owner} has {summary(near)}")


def summary(sites: Iterable[Site]) -> str:
    """`ff.hidden in blocks 2-3, ff.out in blocks 0-3`, for messages."""
    blocks: dict[str, list[int]] = {}
    for site in sites:
        blocks.setdefault(str(site).partition(".")[2], []).append(site.block)
    spans = {name: f"{min(b)}-{max(b)}" if len(b) > 1 else f"{b[0]}" for name, b in blocks.items()}
    return ", ".join(f"{name} in blocks {span}" for name, span in sorted(spans.items()))
