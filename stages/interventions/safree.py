"""SAFREE (arXiv 2410.12761): words that bring a prompt near a concept are projected away from it in the first steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from stages.control.edits import Predictions, edit_guidance, free_role
from stages.control.sites import Moment
from stages.interventions.base import Intervention
from stages.interventions.embedding import POOLED
from stages.reading.concept_masks import other_tokens

if TYPE_CHECKING:
    from stages.backbones.core.base import Backbone, Condition

Pool = Literal["last", "mean"]


class Filter(Intervention):
    """Asks for the prediction of each prompt with its words of the concept projected, and takes it in the first steps.

    There are `lasting` sigmoid(1 - cos(prompt, projection)) such steps. `pool` says which vector stands for a prompt:
    that of its last token (CLIP's own), or the mean of all.
    """

    ROLE = "filtered"

    def __init__(self, words: Sequence[str], alpha: float, lasting: float, pool: Pool = "last") -> None:
        super().__init__()
        self.words, self.alpha, self.lasting, self.pool = tuple(words), alpha, lasting, pool

    @contextmanager
    def attach(self, backbone: Backbone) -> Iterator[None]:
        """Edits guidance with one more role, whose condition is made from the prompts of each run."""
        if self.lasting == 0:
            yield
            return
        own, until = free_role(backbone, self.ROLE), []

        def ask(condition: Condition) -> Condition:
            found, until[:] = self.filtered(backbone, condition)
            return found

        def edit(predictions: Predictions, at: Moment) -> Predictions:
            if own not in predictions:
                return predictions
            rest = {role: value for role, value in predictions.items() if role != own}
            early = torch.tensor([at.step < steps for steps in until], device=rest["cond"].device)
            early = early.view(-1, *[1] * (rest["cond"].ndim - 1))
            return rest | {"cond": torch.where(early, predictions[own], rest["cond"])}

        with edit_guidance(backbone, edit, {own: ask}):
            yield

    @torch.no_grad()
    def filtered(self, backbone: Backbone, condition: Condition) -> tuple[Condition, list[int]]:
        """The condition with the concept projected out, and for how many first steps each of its rows is used."""
        concept = self._vectors(backbone, self.words)
        found = condition.join([self._row(backbone, condition.rows([i]), concept) for i in range(len(condition))])
        pair = (part.tensors["embeds"].flatten(1).double() for part in (condition, found))
        return found, [round(self.lasting * share_of_steps(cosine)) for cosine in cosine_similarity(*pair).tolist()]

    def _row(self, backbone: Backbone, row: Condition, concept: Mapping[str, Tensor]) -> Condition:
        (prompt,) = row.prompts
        words = prompt.split()
        if len(words) < 2:
            return row
        without = [" ".join(words[:i] + words[i + 1 :]) for i in range(len(words))]
        absent = self._vectors(backbone, without)
        first = next(iter(concept))
        named = triggers(rejection(absent[first], concept[first]).norm(dim=1), self.alpha).nonzero().flatten()
        if not len(named):
            return row
        new = {name: row.tensors[name].clone() for name in ("embeds", *{POOLED} & concept.keys())}
        for part, rows in concept.items():
            if part == POOLED:
                value, where = new[POOLED], (0,)
            else:
                at = backbone.texts.segment(part, new["embeds"].shape[1])
                absent_in = [without[word] for word in named]
                found = other_tokens([prompt] * len(absent_in), absent_in, at.tokenize)
                places = sorted({at.begin + i for places in found for i in places if i < at.length})
                value, where = new["embeds"], (0, places)
            value[where] = projected(value[where], rows, absent[part]).to(value)
        return row.with_tensors(**new)

    def _vectors(self, backbone: Backbone, prompts: Sequence[str]) -> dict[str, Tensor]:
        """One vector per prompt, (K, D), of its tokens in each text encoder and of the pooled text, if any; float64."""
        condition, found = backbone.encode(prompts), {}
        tensors = condition.tensors
        for part in backbone.texts.starts:
            at = backbone.texts.segment(part, tensors["embeds"].shape[1])
            embeds = tensors["embeds"][:, at.begin : at.begin + at.length].double()
            sizes = [min(len(ids), at.length) for ids in at.tokenize(prompts)]
            sizes = tensors["mask"].sum(1).tolist() if "mask" in tensors else sizes
            if self.pool == "last":
                found[part] = torch.stack([text[size - 1] for text, size in zip(embeds, sizes, strict=True)])
            else:
                found[part] = torch.stack([text[:size].mean(0) for text, size in zip(embeds, sizes, strict=True)])
        return found | ({POOLED: tensors[POOLED].double()} if POOLED in tensors else {})

    def spec(self) -> dict[str, Any]:
        """Words and numbers."""
        return {"words": list(self.words), "alpha": self.alpha, "lasting": self.lasting, "pool": self.pool}

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], spec: Mapping[str, Any]) -> Filter:
        """From what `spec` says."""
        return cls(**spec)


def triggers(distances: Tensor, alpha: float) -> Tensor:
    """Which words (N,) take a prompt away from the concept if they are left out: z_i > (1 + alpha) mean_(j != i) z_j.

    `distances` z (N,) are those of the prompt without each word; none of fewer than two words.
    """
    if len(distances) < 2:
        return torch.zeros(len(distances), dtype=torch.bool)
    others = (distances.sum() - distances) / (len(distances) - 1)
    return distances > (1 + alpha) * others


def projected(tokens: Tensor, concept: Tensor, inside: Tensor) -> Tensor:
    """P_I (I - P_C) p of tokens (..., D): out of the concept's span (K, D), then into that of `inside` (N, D)."""
    return projection(rejection(tokens, concept), inside)


def rejection(tokens: Tensor, rows: Tensor) -> Tensor:
    """(I - P) p of tokens (..., D) for the orthogonal projection P on the span of rows (K, D); float64."""
    return tokens.double() - projection(tokens, rows)


def projection(tokens: Tensor, rows: Tensor) -> Tensor:
    """P p of tokens (..., D) for the orthogonal projection P on the span of rows (K, D); float64."""
    _, sizes, basis = torch.linalg.svd(rows.double(), full_matrices=False)
    basis = basis[sizes > 1e-6 * sizes.max()]  # float32's rounding spans nothing
    return tokens.double() @ basis.T @ basis


def share_of_steps(cosine: float) -> float:
    """sigmoid(1 - cos(p, p_safe)): a half if nothing was taken out, 0.88 for opposite texts."""
    return float(torch.sigmoid(torch.tensor(1.0 - cosine)))
