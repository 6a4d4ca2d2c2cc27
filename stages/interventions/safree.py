"""SAFREE (arXiv 2410.12761): words that bring a prompt near a concept are projected away from it in the first steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from stages.control.edits import Predictions, edit_guidance, free_role
from stages.control.mentions import mentions
from stages.control.sites import Moment
from stages.interventions.conditional import Conditional
from stages.interventions.embedding import POOLED
from stages.interventions.reattention import reattend
from stages.reading.concept_masks import other_tokens

if TYPE_CHECKING:
    from stages.backbones.core.base import Backbone, Condition

Pool = Literal["last", "mean"]
Vectors = Mapping[str, Tensor]  # text encoder, or POOLED, -> a vector per prompt (K, D), float64


@dataclass(frozen=True)
class Course:
    """How many first steps a prompt is projected in: 1 + round(most sigmoid(2 slope (10 z - midpoint))).

    z is 1 - the mean cosine between its tokens and their projections. The released code counts so, and not as the paper
    prints it; the first step is always one of them.
    """

    most: float
    midpoint: float
    slope: float

    def steps(self, distance: float) -> int:
        """The steps at a distance z in [0, 2]."""
        share = torch.tensor(2 * self.slope * (10 * distance - self.midpoint), dtype=torch.float64).sigmoid()
        return 1 + round(self.most * float(share))


class Filter(Conditional):
    """Asks for the prediction of each prompt with its words of the concept projected, and takes it in the first steps.

    `words` span the concept, one phrase a row. `pool` says which vector stands for a prompt: that of its last token
    (CLIP's own), or the mean of all. `reattention` filters a U-Net's skips meanwhile; see `reattend`.
    """

    ROLE = "filtered"

    def __init__(
        self,
        words: Sequence[str],
        alpha: float,
        course: Course,
        pool: Pool = "last",
        reattention: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.words, self.alpha, self.course, self.pool = tuple(words), alpha, course, pool
        self.reattention = None if reattention is None else (reattention[0], reattention[1])

    @property
    def keywords(self) -> tuple[str, ...]:
        """The words that span the concept."""
        return self.words

    @contextmanager
    def attach(self, backbone: Backbone) -> Iterator[None]:
        """Edits guidance with one more role, whose condition is made from the prompts of each run."""
        own = free_role(backbone, self.ROLE)
        until: list[int] = []

        def ask(condition: Condition) -> Condition:
            found, until[:] = self.filtered(backbone, condition)
            changed = found.tensors["embeds"] != condition.tensors["embeds"]
            self._tell(changed.flatten(1).any(1).float())
            return found

        def edit(predictions: Predictions, at: Moment) -> Predictions:
            if own not in predictions:
                return predictions
            rest = {role: value for role, value in predictions.items() if role != own}
            early = torch.tensor([at.step < steps for steps in until], device=rest["cond"].device)
            early = early.view(-1, *[1] * (rest["cond"].ndim - 1))
            return rest | {"cond": torch.where(early, predictions[own], rest["cond"])}

        with ExitStack() as stack:
            stack.enter_context(edit_guidance(backbone, edit, {own: ask}))
            if self.reattention is not None:
                stack.enter_context(reattend(backbone, self.reattention, own))
            yield

    @torch.no_grad()
    def filtered(self, backbone: Backbone, condition: Condition) -> tuple[Condition, list[int]]:
        """The condition with the concept projected out, and for how many first steps each of its rows is used."""
        concept = self._vectors(backbone, self.words)
        rows, distances = zip(
            *(self._row(backbone, condition.rows([i]), concept) for i in range(len(condition))), strict=True
        )
        return condition.join(list(rows)), [self.course.steps(distance) for distance in distances]

    def _row(self, backbone: Backbone, row: Condition, concept: Vectors) -> tuple[Condition, float]:
        """A prompt with its words of the concept projected, and the distance z to itself with all tokens projected."""
        (prompt,) = row.prompts
        words = prompt.split()
        if not words:
            return row, 0.0
        without = [" ".join(words[:i] + words[i + 1 :]) for i in range(len(words))]
        absent = self._vectors(backbone, without)
        first = next(iter(concept))
        distance = self._distance(backbone, row, concept[first], absent[first])
        if len(words) == 1:  # no other to compare it with
            named = [0] if mentions(prompt, self.words) else []
        else:
            far = rejection(absent[first], concept[first]).norm(dim=1)
            named = triggers(far, self.alpha).nonzero().flatten().tolist()
        if not named:
            return row, distance
        new = {name: row.tensors[name].clone() for name in ("embeds", *{POOLED} & concept.keys())}
        for part, rows in concept.items():
            if part == POOLED:
                new[part][0] = projected(new[part][0], rows, absent[part]).to(new[part])
                continue
            at = backbone.texts.segment(part, new["embeds"].shape[1])
            found = other_tokens([prompt] * len(named), [without[word] for word in named], at.tokenize)
            places = sorted({at.begin + i for positions in found for i in positions if i < at.length})
            new["embeds"][0, places] = projected(new["embeds"][0, places], rows, absent[part]).to(new["embeds"])
        return row.with_tensors(**new), distance

    def _distance(self, backbone: Backbone, row: Condition, concept: Tensor, inside: Tensor) -> float:
        """z: 1 - the mean cosine of the first text encoder's tokens, padding left out, and their projections."""
        part = next(iter(backbone.texts.starts))
        ((tokens,), (size,)) = self._tokens(backbone, row, part)
        tokens = tokens[:size]
        return 1 - float(cosine_similarity(tokens, projected(tokens, concept, inside)).mean())

    def _vectors(self, backbone: Backbone, prompts: Sequence[str]) -> dict[str, Tensor]:
        """One vector per prompt, (K, D), of its tokens in each text encoder and of the pooled text, if any; float64."""
        condition, found = backbone.encode(prompts), {}
        for part in backbone.texts.starts:
            rows = list(zip(*self._tokens(backbone, condition, part), strict=True))
            if self.pool == "last":
                found[part] = torch.stack([text[size - 1] for text, size in rows])
            else:
                found[part] = torch.stack([text[:size].mean(0) for text, size in rows])
        pooled = condition.tensors.get(POOLED)
        return found if pooled is None else found | {POOLED: pooled.double()}

    def _tokens(self, backbone: Backbone, condition: Condition, part: str) -> tuple[Tensor, list[int]]:
        """The tokens of a text encoder, (K, L, D) in float64, and how many of each row are no padding."""
        tensors = condition.tensors
        at = backbone.texts.segment(part, tensors["embeds"].shape[1])
        tokens = tensors["embeds"][:, at.begin : at.begin + at.length].double()
        if "mask" in tensors:
            return tokens, tensors["mask"].sum(1).tolist()
        return tokens, [min(len(ids), at.length) for ids in at.tokenize(condition.prompts)]

    def spec(self) -> dict[str, Any]:
        """Words and numbers."""
        scales = None if self.reattention is None else list(self.reattention)
        numbers = {"alpha": self.alpha, "course": asdict(self.course), "pool": self.pool, "reattention": scales}
        return {"words": list(self.words)} | numbers

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], spec: Mapping[str, Any]) -> Filter:
        """From what `spec` says."""
        return cls(**{**spec, "course": Course(**spec["course"])})


def triggers(distances: Tensor, alpha: float) -> Tensor:
    """Which words (N,) take a prompt away from the concept if they are left out: z_i > (1 + alpha) mean_(j != i) z_j.

    `distances` z (N,) are those of the prompt without each word; none of fewer than two words.
    """
    if len(distances) < 2:
        return torch.zeros(len(distances), dtype=torch.bool)
    others = (distances.sum() - distances) / (len(distances) - 1)
    return distances > (1 + alpha) * others


def projected(tokens: Tensor, concept: Tensor, inside: Tensor) -> Tensor:
    """(I - P_C) P_I p of tokens (..., D), float64: into the span of `inside` (N, D), then out of the concept's (K, D).

    So released; the paper prints the other order, in which the first span hands back some of the concept.
    """
    return rejection(projection(tokens, inside), concept)


def rejection(tokens: Tensor, rows: Tensor) -> Tensor:
    """(I - P) p of tokens (..., D) for the orthogonal projection P on the span of rows (K, D); float64."""
    return tokens.double() - projection(tokens, rows)


def projection(tokens: Tensor, rows: Tensor) -> Tensor:
    """P p of tokens (..., D) for the orthogonal projection P on the span of rows (K, D); float64."""
    _, sizes, basis = torch.linalg.svd(rows.double(), full_matrices=False)
    basis = basis[sizes > 1e-6 * sizes.max()]  # float32's rounding spans nothing
    return tokens.double() @ basis.T @ basis
