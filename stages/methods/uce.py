"""Unified Concept Editing (arXiv 2308.14761): the weights that read text are edited in closed form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from stages.backbones.core.base import Backbone
from stages.interventions.weights import Weights
from stages.methods.shared.data import FromPairs
from stages.methods.shared.text_inputs import Tokens, kept_rows, paired_rows, text_inputs
from stages.objectives import edited_weight, negative_guidance, projected_out
from stages.params.concept import Concept
from stages.params.types import Departs, NonNegative, Rate

Rows = tuple[Tensor, Tensor]  # a weight's inputs (n, d) for a concept's tokens, and for those they are mapped to


@dataclass(frozen=True)
class UCE(FromPairs):
    """W' = (ridge W + sum_i s_i v_i c_i^T)(ridge I + sum_i s_i c_i c_i^T)^-1, arXiv 2308.14761 eq. 7: tokens c of the
    concept get the values v of the neutral prompt's, tokens of retain prompts keep theirs. Nothing is trained.
    """

    DEPARTS: ClassVar[Departs] = {"push > 0": "push: {push}"}

    # Which tokens of a prompt and its twin are paired: the last words (the released code), from there to the end (an
    # earlier form of it), or all of them; each text encoder's among themselves.
    tokens: Tokens = "last"
    # v is the neutral value, or that value without its part along the concept's (`tensor`).
    technique: Literal["replace", "tensor"] = "replace"
    erase: Rate = 1.0  # s of the concept's tokens
    preserve: NonNegative = 1.0  # s of the retain prompts' tokens
    ridge: Rate = 0.5  # holds W where no token says otherwise; the paper prints none, and cannot be solved without
    # Neutral prompts sometimes show the concept; an erasure that merely matches them cannot do better. This aims beyond
    # them, away from the concept; the paper does not.
    push: NonNegative = 0.0
    bias: bool = False  # adds a layer's bias to v, as the released code for Flux does

    def fit(self, backbone: Backbone, concept: Concept, *, seed: int) -> Weights:
        """The new values of every weight that reads text; ValueError for a backbone that reads none."""
        concept = self.learned(concept)
        names = backbone.addresses.readers()
        edits, kept = gather_rows(backbone, names, concept, self.tokens, self.push)
        values = {name: self.solve(backbone, name, edits[name], kept[name]) for name in names}
        return Weights({name: value.float().contiguous() for name, value in values.items()})

    def solve(self, backbone: Backbone, name: str, edits: Sequence[Rows], kept: Sequence[Tensor]) -> Tensor:
        """The new value (d_out, d_in) of a backbone's weight, float64."""
        bias = None
        if self.bias:
            bias = dict(backbone.net.named_parameters()).get(f"{name.rpartition('.')[0]}.bias")
        return self.edit(backbone.addresses.parameter(name), edits, kept, bias)

    def edit(self, weight: Tensor, edits: Sequence[Rows], kept: Sequence[Tensor], bias: Tensor | None = None) -> Tensor:
        """The weight (d_out, d_in) that maps each edit's first rows to the values of its second, float64."""
        weight, shift = weight.double(), 0 if bias is None else bias.double()
        keys = [rows.double() for rows, _ in edits]
        values = [target.double() @ weight.T + shift for _, target in edits]
        if self.technique == "tensor":
            values = [projected_out(value, key @ weight.T) for key, value in zip(keys, values, strict=True)]
        erased = sum(len(key) for key in keys)
        if self.preserve:
            keys += [rows.double() for rows in kept]
            values += [rows.double() @ weight.T + shift for rows in kept]
        scales = torch.full((sum(len(key) for key in keys),), float(self.preserve), dtype=torch.float64)
        scales[:erased] = self.erase
        return edited_weight(weight, torch.cat(keys), torch.cat(values), scales.to(weight.device), self.ridge)


def gather_rows(
    backbone: Backbone, names: Sequence[str], concept: Concept, tokens: Tokens, push: float = 0.0
) -> tuple[dict[str, list[Rows]], dict[str, list[Tensor]]]:
    """For every weight: the paired rows of each concept prompt, and the rows (n, d) of each retain prompt.

    `push` moves the second rows g of a pair to g - push (c - g).
    """
    erased, neutral = zip(*concept.pairs(), strict=True)
    ours, theirs, others = (text_inputs(backbone, names, side) for side in (erased, neutral, concept.retain))
    pairs, spans = paired_rows(backbone, erased, neutral, tokens), kept_rows(backbone, concept.retain, tokens)
    edits: dict[str, list[Rows]] = {}
    kept: dict[str, list[Tensor]] = {}
    for name in names:
        texts = zip(ours[name], theirs[name], pairs, strict=True)
        if ours[name][0].ndim == 1:  # pooled text has no tokens
            edits[name] = [(a[None], negative_guidance(b, a, push)[None]) for a, b, _ in texts]
            kept[name] = [row[None] for row in others[name]]
            continue
        edits[name] = [(a[own], negative_guidance(b[other], a[own], push)) for a, b, (own, other) in texts]
        kept[name] = [rows[span] for rows, parts in zip(others[name], spans, strict=True) for span in parts]
    return edits, kept
