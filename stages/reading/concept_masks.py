"""The place of a concept in a picture or clip: masks over image tokens, from attention or from two predictions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from stages.backbones.core.base import Backbone
from stages.backbones.text.texts import Tokenize
from stages.control.mentions import mentions
from stages.control.sites import Site
from stages.control.state import Condition, State
from stages.reading.attention import attention_maps

FLAT = 1e-8  # a map whose range is smaller than this share of its height shows nothing


How = Literal["auto", "attention", "difference", "everywhere"]


@dataclass(frozen=True)
class Locator:
    """How a concept is found in the picture, as the network with nothing attached sees it.

    `attention` to the concept's tokens; `difference` of the conditional and unconditional prediction; `auto`: the first
    that the network allows, row by row if a prompt has no token of the concept; `everywhere` is for concepts that fill
    the picture.
    """

    how: How = "auto"
    threshold: float = 0.1  # of a map that is scaled from 0 to 1
    side: int | None = None  # only attention of side x side tokens counts; all of it when None

    def masks(
        self,
        backbone: Backbone,
        state: State,
        conditions: tuple[Condition, Condition],
        positions: Sequence[Sequence[int]],
        tokens: Mapping[Site, int],
    ) -> dict[Site, Tensor]:
        """Masks (B, N) of zeros and ones at sites of N `tokens`; a row that shows nothing gets zeros.

        `conditions` are the concept's and the unconditional one; `positions` the concept's tokens in each prompt.
        ValueError if `attention` is asked for and cannot be read.
        """
        if self.how == "everywhere":
            return {site: torch.ones(len(conditions[0]), n, device=backbone.device) for site, n in tokens.items()}
        shape = tuple(state.latent.shape[1:])
        grid = self._attention(backbone, state, conditions[0], positions)
        missing = [row for row, columns in enumerate(positions) if not columns]
        if grid is None:
            grid = self._difference(backbone, state, conditions, max(tokens.values()))
        elif missing and self.how != "attention":
            other = self._difference(backbone, state, conditions, grid[0].numel())
            grid = grid.index_copy(0, torch.tensor(missing, device=other.device), other[missing])
        mask = binary(normalised(grid), self.threshold)
        return dict.fromkeys(tokens, mask) if mask.ndim == 2 else at_sites(mask, tokens, shape)

    def _difference(
        self, backbone: Backbone, state: State, conditions: tuple[Condition, Condition], finest: int
    ) -> Tensor:
        """The map of the difference of both predictions, averaged down to `finest` tokens; (B, L) of bit margins."""
        with torch.no_grad():
            difference = difference_map(*(backbone.predict(state, condition) for condition in conditions))
        return difference if difference.ndim == 2 else averaged(difference, finest, tuple(state.latent.shape[1:]))

    def _attention(
        self, backbone: Backbone, state: State, condition: Condition, positions: Sequence[Sequence[int]]
    ) -> Tensor | None:
        """The map (B, F, h, w) of attention to the positions; None if it is not asked for or cannot be read."""
        if self.how == "difference":
            return None
        try:
            _, maps = attention_maps(backbone, state, condition, positions)
            return mean_map(maps, tuple(state.latent.shape[1:]), self.side)
        except ValueError:
            if self.how == "attention":
                raise
            return None


def concept_tokens(backbone: Backbone, prompts: Sequence[str], words: Sequence[str]) -> list[list[int]]:
    """Positions of the concept's tokens in each prompt, which are those of its words there, in any form.

    Empty if there are none, or if the backbone has no tokens that stand for rows of its text embedding.
    """
    tokenize = backbone.texts.tokenize
    try:
        special = set(tokenize([""])[0])
        rows = zip(tokenize(prompts), prompts, strict=True)
        return [_named(tokenize, ids, prompt, words, special) for ids, prompt in rows]
    except ValueError:
        return [[] for _ in prompts]


def _named(tokenize: Tokenize, ids: Sequence[int], prompt: str, words: Sequence[str], special: set[int]) -> list[int]:
    """The positions of the words' tokens among a prompt's."""
    said = {prompt[place.start : place.end] for place in mentions(prompt, words)}
    # a word's tokens may differ at the beginning of a text
    sought = [[i for i in own if i not in special] for text in said for own in tokenize([text, f" {text}"])]
    return sorted({position for word in sought for position in _occurrences(ids, word)})


def other_tokens(first: Sequence[str], second: Sequence[str], tokenize: Tokenize) -> list[list[int]]:
    """Positions of the tokens of each first text that the second has not at that place, special ones left out."""
    special = set(tokenize([""])[0])
    return [
        [
            p
            for op, a, b, _, _ in SequenceMatcher(None, x, y, autojunk=False).get_opcodes()
            if op != "equal"
            for p in range(a, b)
            if x[p] not in special
        ]
        for x, y in zip(tokenize(first), tokenize(second), strict=True)
    ]


def difference_map(cond: Tensor, uncond: Tensor) -> Tensor:
    """The difference of two predictions (B, [F,] C, h, w): the mean over channels of |cond - uncond|, (B, [F,] h, w).

    Bit margins (B, L, bits) give (B, L).
    """
    return (cond.float() - uncond.float()).abs().mean(-1 if cond.ndim == 3 else -3)


def normalised(values: Tensor) -> Tensor:
    """Each row of (B, ...) scaled to 0 ... 1 over the whole picture or clip; zeros for a flat row."""
    flat = values.flatten(1)
    low, high = flat.amin(1, keepdim=True), flat.amax(1, keepdim=True)
    span = high - low
    shown = span > FLAT * high.abs().clamp_min(1e-20)
    return torch.where(shown, (flat - low) / span.clamp_min(1e-20), torch.zeros_like(flat)).view_as(values)


def binary(values: Tensor, threshold: float) -> Tensor:
    """A normalised map (B, ...) as 1 (at least the threshold) and 0, in float32."""
    return (values >= threshold).to(torch.float32)


def mean_map(maps: Mapping[Site, Tensor], shape: Sequence[int], side: int | None = None) -> Tensor:
    """One map (B, F, h, w) from maps (B, N) of several sites: their mean, at the finest resolution among them.

    `shape` is that of one latent. With `side` only sites of side x side tokens count, as in Receler; ValueError says
    which sizes there are instead.
    """
    grids = [_grid(values, shape) for values in maps.values()]
    if side is not None:
        have = sorted({tuple(grid.shape[-2:]) for grid in grids})
        grids = [grid for grid in grids if grid.shape[-2:] == (side, side)]
        if not grids:
            raise ValueError(f"no attention has {side} x {side} tokens; there are {have}")
    height, width = max(grid.shape[-2] for grid in grids), max(grid.shape[-1] for grid in grids)
    return torch.stack([_resized(grid, height, width) for grid in grids]).mean(0)


def at_sites(mask: Tensor, tokens: Mapping[Site, int], shape: Sequence[int]) -> dict[Site, Tensor]:
    """A mask (B, F, h, w) at the resolution of each site, as (B, N) for its N tokens; nearest neighbour."""
    return {site: _resized(mask, *_sides(n, shape)).flatten(1) for site, n in tokens.items()}


def averaged(values: Tensor, tokens: int, shape: Sequence[int]) -> Tensor:
    """A map (B, [F,] h, w) averaged down to the tokens of a site, (B, F, h', w')."""
    frames = values if values.ndim == 4 else values.unsqueeze(1)
    return adaptive_avg_pool2d(frames, _sides(tokens, shape))


def _occurrences(ids: Sequence[int], word: Sequence[int]) -> Iterator[int]:
    for start in range(len(ids) - len(word) + 1):
        if word and list(ids[start : start + len(word)]) == list(word):
            yield from range(start, start + len(word))


def _grid(values: Tensor, shape: Sequence[int]) -> Tensor:
    height, width = _sides(values.shape[1], shape)
    return values.view(len(values), -1, height, width)


def _sides(tokens: int, shape: Sequence[int]) -> tuple[int, int]:
    """Height and width in tokens of a latent ([F,] C, h, w) of that many tokens; ValueError if they are no grid."""
    frames = shape[0] if len(shape) == 4 else 1
    height, width = shape[-2:]
    stride = round((frames * height * width / tokens) ** 0.5)
    sides = -(-height // stride), -(-width // stride)
    if frames * sides[0] * sides[1] != tokens:
        raise ValueError(f"{tokens} tokens are no grid over latents of shape {tuple(shape)}")
    return sides


def _resized(grid: Tensor, height: int, width: int) -> Tensor:
    if grid.shape[-2:] == (height, width):
        return grid
    return interpolate(grid, (height, width), mode="nearest")
