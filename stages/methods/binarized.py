"""Masks of another method as zeros and ones, from the first of its checkpoints that erases enough."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from stages.backbones.core.base import Backbone
from stages.backbones.core.capabilities import Walks
from stages.interventions.base import Identity, Intervention
from stages.interventions.masks.binarize import Scope, binarized, kept_shares
from stages.interventions.masks.mask import Mask
from stages.methods.minimalist import references
from stages.methods.shared.base import load_method
from stages.params.concept import Concept
from stages.params.kept import Reads
from stages.params.types import Count, Fraction, Makes, Needs
from stages.reading.unroll import Replay, keeps_history
from stages.store.record import Record


@dataclass(frozen=True)
class Binarized:
    """1 for scores above `threshold`, or for the top `ratio` of them, else 0: another method's masks, arXiv 2507.13386.

    The record has the distances to the target of the unedited backbone, of the masks as trained and of the binary ones,
    if the backbone's solver takes single steps.
    """

    READS: ClassVar[Reads] = {"": "ends"}
    MAKES: ClassVar[Makes] = {"of": "Mask"}
    NEEDS: ClassVar[Needs] = {"threshold": {"ratio": False}, "scope": {"ratio": True}}

    of: str = "minimalist"  # the method whose masks they are
    scope: Scope = "local"  # the top of each layer, of each family (`global`), or of all (`across`)
    ratio: Fraction | dict[str, Fraction] | None = None  # share that stays open, or one per family; null: by threshold
    threshold: float = 0.0
    # Takes the earliest checkpoint whose final latents are nearer to the target than this times the unedited ones; 0:
    # the last.
    stop: Fraction = 0.0
    seeds: Count = 4  # starting noises per prompt for these distances

    def fit(self, backbone: Backbone, concept: Concept, *, seed: int) -> Mask:
        """Fits the masks first (stages.binarize takes those of a finished run); ValueError if they are none."""
        return self.apply(
            load_method(self.of, backbone.name, kind=concept.kind).fit(backbone, concept, seed=seed),
            backbone,
            concept,
            seed,
        )

    def apply(self, mask: Intervention, backbone: Backbone, concept: Concept, seed: int) -> Mask:
        """The chosen checkpoint of the masks in binary mode; ValueError when the run's result is no mask."""
        if not isinstance(mask, Mask):
            raise ValueError(f"{self.of} made a {type(mask).__name__}: only masks can be binarized")
        steps = [*sorted(mask.kept), None] if self.stop else [None]
        candidates = [mask if step is None else mask.with_scores(mask.kept[step], mask.mode) for step in steps]
        masks = [binarized(candidate, self.scope, self.ratio, self.threshold) for candidate in candidates]
        index = len(masks) - 1
        if self.stop or (isinstance(backbone, Walks) and not keeps_history(backbone.scheduler)):
            distance = measure(backbone, concept, self.seeds, seed)
            unedited = distance(Identity())
            if self.stop:
                index, binary = first_below(map(distance, masks), self.stop * unedited)
            else:
                binary = distance(masks[index])
            Record.note(distance={"unedited": unedited, "trained": distance(candidates[index]), "binary": binary})
        Record.note(checkpoint=steps[index] or "last", kept=kept_shares(masks[index]))
        return masks[index]


def first_below(scores: Iterable[float], limit: float) -> tuple[int, float]:
    """Position and value of the first score below the limit, or of the last if none is; later ones are not computed.

    There must be one at least.
    """
    for position, score in enumerate(scores):  # noqa: B007 (both outlive the loop)
        if score < limit:
            break
    return position, score


def measure(backbone: Backbone, concept: Concept, seeds: int, seed: int) -> Callable[[Intervention], float]:
    """A function: mean squared distance of the attached backbone's final latents to the neutral prompt's."""
    settings, pairs = backbone.settings, concept.pairs()
    runs = references(backbone, [neutral for _, neutral in pairs], settings.pool, settings.steps, seed)
    ends = torch.cat([runs[neutral].latents[-seeds:] for _, neutral in pairs])
    numbers = [number for _, neutral in pairs for number in runs[neutral].seeds[-seeds:]]
    count = len(ends) // len(pairs)
    condition = backbone.encode([prompt for prompt, _ in pairs for _ in range(count)])
    call: dict[str, Any] = {"steps": settings.steps, "guidance": settings.guidance}

    @torch.no_grad()
    def distance(mask: Intervention) -> float:
        finals = []
        for rows in backbone.settings.batches(len(ends)):
            latent, run = ends[rows, 0], Replay(backbone, condition.rows(rows), seeds=numbers[rows], **call)
            with mask.attach(backbone):
                for index in range(len(run)):
                    latent = run(index, latent)
            finals.append(latent)
        return float((torch.cat(finals).float() - ends[:, 1].float()).square().mean())

    return distance
