"""RECE (arXiv 2407.12383): closed-form editing, repeated on the embedding that still brings the concept back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from stages.backbones.core.base import Backbone
from stages.interventions.weights import Weights
from stages.methods.shared.data import FromPairs
from stages.methods.shared.text_inputs import Tokens, text_inputs
from stages.methods.uce import UCE, Rows, gather_rows
from stages.objectives import revived
from stages.params.concept import Concept
from stages.params.types import Count, Departs, NonNegative, Rate


@dataclass(frozen=True)
class RECE(FromPairs):
    """UCE, then rounds: c' = (sum W'^T W' + strength I)^-1 (sum W'^T W) c is the embedding that still brings the
    concept back, and UCE edits it away too; arXiv 2407.12383. Nothing is trained.
    """

    DEPARTS: ClassVar[Departs] = {"push > 0": "push: {push}"}

    rounds: Count = 3
    strength: NonNegative = 0.1  # the regulariser of the search
    form: Literal["zero", "weights", "identity", "both"] = "zero"  # of the search, see stages.objectives.revived
    # A revived embedding is mapped to the empty prompt (the paper), to its prompt's first target, or to the values that
    # the prompt's own embedding gets by now. With `empty` and `neutral` a round may change these and so bring the
    # concept back; `erased` preserves them too.
    target: Literal["empty", "neutral", "erased"] = "empty"
    tokens: Tokens = "range"  # paired tokens, as UCE's
    push: NonNegative = 0.0  # how far all neutral targets are moved beyond, as UCE's
    ridge: Rate = 0.1  # UCE's in the rounds
    preserve: NonNegative = 0.1  # UCE's in the rounds
    first_ridge: Rate = 0.5  # UCE's before the rounds
    first_preserve: NonNegative = 1.0  # UCE's before the rounds

    def fit(self, backbone: Backbone, concept: Concept, *, seed: int) -> Weights:
        """The new values of every weight that reads text; ValueError for a backbone that reads none."""
        concept = self.learned(concept)
        names = backbone.addresses.readers()
        edits, kept = gather_rows(backbone, names, concept, self.tokens, self.push)
        original = {name: backbone.addresses.parameter(name).double() for name in names}
        first = UCE(self.tokens, ridge=self.first_ridge, preserve=self.first_preserve)
        weights = {name: first.edit(original[name], edits[name], kept[name]) for name in names}
        if self.target == "empty":
            edits = self._to_empty(backbone, names, concept)
        for _ in range(self.rounds):
            weights = self.round(weights, original, edits, kept)
        return Weights({name: value.float().contiguous() for name, value in weights.items()})

    def round(
        self,
        weights: Mapping[str, Tensor],
        original: Mapping[str, Tensor],
        edits: Mapping[str, list[Rows]],
        kept: Mapping[str, list[Tensor]],
    ) -> dict[str, Tensor]:
        """The weights (d_out, d_in) after one more round, each from the ones before."""
        step = UCE(ridge=self.ridge, preserve=self.preserve)
        revived_edits = self.search(weights, original, edits)
        if self.target == "erased":
            kept = {name: [*rows, *(key for key, _ in edits[name])] for name, rows in kept.items()}
        return {name: step.edit(weights[name], revived_edits[name], kept[name]) for name in weights}

    def search(
        self, weights: Mapping[str, Tensor], original: Mapping[str, Tensor], edits: Mapping[str, list[Rows]]
    ) -> dict[str, list[Rows]]:
        """The edits with their concept's embeddings replaced by the ones that revive it through all weights at once."""
        revived_edits: dict[str, list[Rows]] = {}
        for names in alike(edits):
            old, new = ([side[name] for name in names] for side in (original, weights))
            rows = [
                (revived(new, old, key, self.strength, self.form), key if self.target == "erased" else target)
                for key, target in edits[names[0]]
            ]
            revived_edits |= dict.fromkeys(names, rows)
        return revived_edits

    def _to_empty(self, backbone: Backbone, names: list[str], concept: Concept) -> dict[str, list[Rows]]:
        whole, empty = (text_inputs(backbone, names, prompts) for prompts in (concept.prompts, [" "]))

        def rows(name: str) -> list[Rows]:
            target, *ours = (value.reshape(-1, value.shape[-1]) for value in (*empty[name], *whole[name]))
            ends = [torch.arange(len(row)).clamp(max=len(target) - 1) for row in ours]  # unpadded: its last token
            return [(row, target[end]) for row, end in zip(ours, ends, strict=True)]

        return {name: rows(name) for name in names}


def alike(edits: Mapping[str, Sequence[Rows]]) -> list[list[str]]:
    """The weights in groups of the same inputs. Compared by value: tokens and pooled text may have the same width."""
    groups: list[list[str]] = []
    for name, rows in edits.items():
        group = next((group for group in groups if _same(edits[group[0]], rows)), None)
        if group is None:
            groups.append([name])
        else:
            group.append(name)
    return groups


def _same(first: Sequence[Rows], second: Sequence[Rows]) -> bool:
    pairs = [pair for rows in zip(first, second, strict=True) for pair in zip(*rows, strict=True)]
    return all(torch.equal(a, b) for a, b in pairs)
