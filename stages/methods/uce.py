"""Unified Concept Editing (arXiv 2308.14761): the weights that read text are edited in closed form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from stages.backbones.core.base import Backbone
from stages.interventions.weights import Weights
from stages.methods.shared.text_inputs import Tokens, kept_rows, paired_rows, text_inputs
from stages.objectives import edited_weight, negative_guidance, projected_out
from stages.params.concept import Concept
from stages.params.types import NonNegative, Rate

Rows = tuple[Tensor, Tensor]  # what a weight is given for a concept's tokens (n, d), and for those they are mapped to


@dataclass
class UCE:
    """Maps the concept's keys and values to those of its neutral prompts, and keeps those of the retain prompts.

    `tokens` says which tokens of the two prompts are paired: the last word (the released code), the first release's
    `range`, or all of them `aligned`; those of several text encoders each among themselves. `technique`: the target is
    the neutral value (`replace`), or that value without its part along the concept's (`tensor`). `ridge` holds the
    weight where no token says otherwise; the paper's equation has none and cannot be solved without. `push` moves the
    target beyond the neutral prompt, away from the concept, which the paper does without: where neutral prompts show
    the concept now and then, they are the floor of an erasure that only equals them. `bias` adds a layer's bias to the
    targets, as the released code for Flux does.
    """

    tokens: Tokens = "last"
    technique: Literal["replace", "tensor"] = "replace"
    erase: Rate = 1.0
    preserve: NonNegative = 1.0
    ridge: Rate = 0.5
    push: NonNegative = 0.0
    bias: bool = False

    def fit(self, backbone: Backbone, concept: Concept, *, seed: int) -> Weights:
        """Solves for every weight that reads text."""
        names = backbone.addresses.readers()
        edits, kept = gather_rows(backbone, names, concept, self.tokens, self.push)
        values = {name: self.solve(backbone, name, edits[name], kept[name]) for name in names}
        return Weights({name: value.float().contiguous() for name, value in values.items()})

    def solve(self, backbone: Backbone, name: str, edits: Sequence[Rows], kept: Sequence[Tensor]) -> Tensor:
        """The new value of a backbone's weight, float64."""
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
    """For every weight: the paired rows of each concept prompt, and the rows of each retain prompt.

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
