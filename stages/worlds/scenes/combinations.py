"""Which combinations of labels a world of scenes draws, and how often."""

from __future__ import annotations

from functools import lru_cache
from itertools import product

import torch
from torch import Tensor

from stages.worlds.scenes.labels import (
    BACKGROUNDS,
    COLOURS,
    FIGURES,
    GROUNDS,
    LABELS,
    OBJECTS,
    OPPOSITE,
    PLACES,
    STYLES,
    parse,
)

LOOKS = ((0, 0), (1, 0), (2, 0), (0, 1), (0, 2), (0, 3))  # texture and style of an object
LOOK_SHARES = (0.34, 0.15, 0.15, 0.12, 0.12, 0.12)
PLACE_SHARES = (0.6, 0.1, 0.1, 0.1, 0.1)
DARK = BACKGROUNDS.index("dark")
KINDS = tuple(LABELS)  # columns of a table


@lru_cache(maxsize=32)
def table(figures: float, pairs: float, exclude: tuple[str, ...], clips: bool = False) -> tuple[Tensor, Tensor]:
    """Returns combinations (K, 9), an index per kind of LABELS, -1 where it does not apply, and their summed shares.

    A share `figures` of the pictures shows a figure, a share `pairs` two objects, the others one object; without any of
    one sort, its share falls to the others. Clips show flat plain things alone, at no place, on a dark background.
    ValueError for an unknown concept in `exclude`, and if nothing is left.
    """
    parts, weights = [], []
    for share, (rows, shares) in (
        (1 - figures - pairs, _objects(clips)),
        (figures, _figures(clips)),
        (0.0 if clips else pairs, _pairs()),
    ):
        left = shares * torch.stack([~_shown(rows, concept) for concept in exclude] or [shares > 0]).all(0)
        if share > 0 and left.sum() > 0:
            parts.append(rows[left > 0])
            weights.append(share * left[left > 0] / left.sum())
    if not parts:
        raise ValueError(f"nothing is left to draw without {', '.join(exclude)}")
    every = torch.cat(weights)
    return torch.cat(parts), (every / every.sum()).cumsum(0)


def pick(combinations: Tensor, summed: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """Returns n of the combinations (N, 9), drawn by their shares."""
    chance = torch.rand(n, generator=generator, dtype=torch.float64)
    return combinations[torch.searchsorted(summed, chance).clamp(max=len(summed) - 1)]


def _objects(clips: bool) -> tuple[Tensor, Tensor]:
    looks, places = (LOOKS[:1], (-1,)) if clips else (LOOKS, range(len(PLACES)))
    rows, shares = [], []
    for (i, (texture, style)), place in product(enumerate(looks), places):
        grounds = (DARK,) if clips else backgrounds(style)
        share = LOOK_SHARES[i] * PLACE_SHARES[place] / len(grounds)
        for colour, thing, ground in product(range(len(COLOURS)), range(len(OBJECTS)), grounds):
            rows.append((colour, thing, texture, style, -1, place, ground, -1, -1))
            shares.append(share)
    return torch.tensor(rows), torch.tensor(shares, dtype=torch.float64)


def backgrounds(style: int) -> tuple[int, ...]:
    """The backgrounds that pictures in a style have."""
    return tuple(BACKGROUNDS.index(name) for name in GROUNDS.get(STYLES[style], BACKGROUNDS))


def _figures(clips: bool) -> tuple[Tensor, Tensor]:
    places, grounds = ((-1,), (DARK,)) if clips else (range(len(PLACES)), range(len(BACKGROUNDS)))
    rows = [(-1, -1, -1, 0, *each, -1, -1) for each in product(range(len(FIGURES)), places, grounds)]
    return torch.tensor(rows), torch.tensor([PLACE_SHARES[row[5]] for row in rows], dtype=torch.float64)


@lru_cache(maxsize=1)
def _pairs() -> tuple[Tensor, Tensor]:
    """Two flat plain objects of different colours and forms."""
    every = range(len(COLOURS)), range(len(OBJECTS)), range(1, len(PLACES)), range(len(BACKGROUNDS))
    rows = [
        (colour, thing, 0, 0, -1, place, ground, *other)
        for colour, thing, place, ground, *other in product(*every, range(len(COLOURS)), range(len(OBJECTS)))
        if colour != other[0] and thing != other[1]
    ]
    return torch.tensor(rows), torch.ones(len(rows), dtype=torch.float64)


def _shown(rows: Tensor, concept: str) -> Tensor:
    """Returns (K,) bool: which combinations show all of a concept's labels in one object."""
    wanted = parse(concept)
    second = rows.clone()
    second[:, 0], second[:, 1] = rows[:, 7], rows[:, 8]
    second[:, 5] = torch.tensor((*OPPOSITE, -1))[rows[:, 5]]
    second[rows[:, 8] < 0] = -1
    each = [
        torch.stack([slot[:, KINDS.index(kind)] == index for kind, index in wanted.items()]).all(0)
        for slot in (rows, second)
    ]
    return each[0] | each[1]
