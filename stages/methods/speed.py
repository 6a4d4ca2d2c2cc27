"""SPEED (arXiv 2503.07392): closed-form edits in the null space of what must stay, for many concepts at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor

from stages.backbones.core.base import Backbone
from stages.control.mentions import mentions
from stages.interventions.weights import Weights
from stages.methods.shared.data import FromPairs
from stages.methods.shared.text_inputs import Tokens, kept_rows, text_inputs
from stages.methods.uce import Rows, gather_rows
from stages.objectives.null_space import (
    above_mean,
    augmented,
    null_projector,
    null_space_change,
    shift,
    smallest_direction,
)
from stages.params.concept import Concept
from stages.params.types import Count, Natural, Needs, NonNegative, Rate
from stages.seeds import Purpose, generator

GROUP = 8  # rows that are varied together, in the released order of draws
ROUNDS = 100  # of k-means, at most
Noise = Tensor | torch.Generator


@dataclass(frozen=True)
class SPEED(FromPairs):
    """W' = W + D: tokens of the concept get their neutral twins' values, as far as retained rows feel nothing of D.

    arXiv 2503.07392; nothing is trained. Retained rows that the edit would hardly move are left out, the others varied
    along the direction that W reads least, and the empty prompt stays exactly. See stages.objectives.null_space.
    """

    NEEDS: ClassVar[Needs] = {"filtered": {"rounds": True}, "chunk": {"rounds": True}}

    tokens: Tokens = "last"  # which tokens of a prompt and its twin are paired, as UCE's
    projections: tuple[Literal["key", "value"], ...] = ("value",)  # of cross-attention; networks without: all readers
    vocabulary: str = (
        ""  # a file of texts to retain beside the retain prompts, one a line; those of the concept are not
    )
    rounds: Natural = 10  # variants of each retained row; 0 also keeps all rows
    filtered: bool = True  # leaves retained rows out that the edit moves by less than the mean
    threshold: Rate = 0.1  # mean square below which a direction is free; grows with the embeddings' length squared
    scale: Rate = 1.0  # s: weight of the change's own size
    soft: NonNegative = 0.0  # l: 0 holds the empty prompt exactly
    chunk: Count = 128  # rows whose variants are compared with each other
    centres: Natural = 3  # the empty prompt's first token and so many centres of its others stay

    def fit(self, backbone: Backbone, concept: Concept, *, seed: int) -> Weights:
        """The new values; ValueError for a backbone that reads no text, FileNotFoundError without the vocabulary."""
        concept = self.learned(concept)
        names = self._names(backbone)
        retain = (*concept.retain, *self._texts(concept))
        wide = Concept(concept.name, concept.prompts, concept.neutral, retain)
        edits, kept = gather_rows(backbone, names, wide, self.tokens)
        empty, (spans,) = text_inputs(backbone, names, [""]), kept_rows(backbone, [""], "range")
        values = {}
        for i, name in enumerate(names):
            (rows,) = empty[name]
            rows = rows[None] if rows.ndim == 1 else torch.cat([rows[span] for span in spans])
            stays = invariant(rows, self.centres, generator(Purpose.WEIGHTS, seed, 2 * i))
            noise = generator(Purpose.WEIGHTS, seed, 2 * i + 1)
            weight = backbone.addresses.parameter(name)
            values[name] = weight + self.change(weight, edits[name], torch.cat(kept[name]), stays, noise)
        return Weights({name: value.float().contiguous() for name, value in values.items()})

    def change(self, weight: Tensor, edits: Sequence[Rows], retain: Tensor, stays: Tensor, noise: Noise) -> Tensor:
        """D (d_out, d), float64, of a weight: from pairs of rows, rows to retain (n, d) and columns that stay (d, k).

        `noise` is normal, one row for each variant, or what to draw it from.
        """
        second = moments(edits)
        kept = self.retained(weight, second, retain, noise)
        return null_space_change(weight, second, null_projector(kept, self.threshold), stays, self.scale, self.soft)

    def retained(self, weight: Tensor, second: tuple[Tensor, Tensor], rows: Tensor, noise: Noise) -> Tensor:
        """The rows (m, d) that span what must stay: those that the edit moves much, and their variants that it does."""
        rows = rows.double()
        if not self.rounds:
            return rows
        felt = shift(weight, *second)
        if self.filtered:
            rows = rows[above_mean(rows, felt)]
        return torch.cat([rows, *self.variants(weight, felt, rows, noise)])

    def variants(self, weight: Tensor, felt: Tensor, rows: Tensor, noise: Noise) -> Iterator[Tensor]:
        """Variants of rows (n, d), chunk by chunk, of which those are kept that `felt` moves by more than the mean."""
        direction, done = smallest_direction(weight), 0
        for chunk in rows.split(self.chunk):
            order = torch.cat([group.repeat(self.rounds, 1) for group in chunk.split(GROUP)])
            if isinstance(noise, Tensor):
                draws = noise[done : done + len(order)]
            else:
                draws = torch.randn(order.shape, generator=noise)
            done += len(order)
            varied = augmented(order, direction, draws.to(order))
            yield varied[above_mean(varied, felt)]

    def _names(self, backbone: Backbone) -> list[str]:
        readers = backbone.addresses.readers()
        try:
            chosen = set(backbone.weights("cross_attn", projections=self.projections))
        except KeyError:
            return readers
        return [name for name in readers if name in chosen] or readers

    def _texts(self, concept: Concept) -> list[str]:
        """The vocabulary's lines that do not name the concept."""
        if not self.vocabulary:
            return []
        path = Path(self.vocabulary)
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing: texts to retain, one a line")
        lines = map(str.strip, path.read_text(encoding="utf-8").splitlines())
        named = partial(mentions, words=(*concept.called(), *concept.synonyms))
        return [line for line in lines if line and not named(line)]


def moments(edits: Sequence[Rows]) -> tuple[Tensor, Tensor]:
    """T = mean c^T c and A = mean g^T c over concepts, (d, d) in float64; several rows of a concept add up."""
    pairs = [(c.double(), g.double()) for c, g in edits]
    ours, theirs = (torch.cat([pair[side] for pair in pairs]) for side in (0, 1))
    return ours.T @ ours / len(pairs), theirs.T @ ours / len(pairs)


def invariant(rows: Tensor, centres: int, draws: torch.Generator) -> Tensor:
    """What of the empty prompt's rows (n, d) stays: the first and the centres of the others, as columns (d, k)."""
    first, others = rows[:1].double(), rows[1:].double()
    return torch.cat([first, clustered(others, min(centres, len(others)), draws)]).T


def clustered(rows: Tensor, many: int, draws: torch.Generator) -> Tensor:
    """Centres (k, d) of k-means over rows (n, d), started from distinct random rows; a cluster without rows goes."""
    centres = rows[torch.randperm(len(rows), generator=draws)[:many].to(rows.device)]
    for _ in range(ROUNDS if many else 0):
        nearest = torch.cdist(rows, centres).argmin(1)
        moved = torch.stack([rows[nearest == i].mean(0) for i in nearest.unique().tolist()])
        if torch.equal(moved, centres):
            break
        centres = moved
    return centres
