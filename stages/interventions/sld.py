"""Safe latent diffusion: guidance away from a concept, only where the prediction moves towards it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from stages.control.edits import Predictions, edit_guidance, free_role
from stages.control.sites import Moment
from stages.interventions.base import Intervention
from stages.interventions.guidance import likeness

if TYPE_CHECKING:
    from stages.backbones.core.base import Backbone


@dataclass(frozen=True)
class Safety:
    """The five numbers of arXiv 2211.05105, `warmup` in steps of the sampler, and two more.

    `agreement` multiplies what is taken out by that power of the cosine of cond - uncond and concept - uncond, picture
    by picture; at 0 it stays as it is. `together` gives all frames of a clip the mean of their momentum.
    """

    warmup: int = 10
    scale: float = 1000.0
    threshold: float = 0.01
    momentum_scale: float = 0.3
    momentum_beta: float = 0.4
    agreement: float = 0.0
    together: bool = False


class SafetyGuidance(Intervention):
    """Asks for the concept's prediction beside the prompt's, and takes its share out of the guidance.

    A sampler without guidance (at 1 or less) follows the prompt's prediction less that share.
    """

    ROLE = "safety"

    def __init__(self, prompt: str, safety: Safety) -> None:
        super().__init__()
        self.prompt, self.safety = prompt, safety

    @contextmanager
    def attach(self, backbone: Backbone) -> Iterator[None]:
        """Edits guidance with a momentum that a run carries from step to step, and each run starts anew.

        A prediction for itself, such as one that is learned from, has none. Gradients take the past as it is.
        """
        if self.safety.scale <= 0:
            yield
            return
        last: tuple[Moment, Tensor] | None = None
        own = free_role(backbone, self.ROLE)

        def edit(predictions: Predictions, at: Moment) -> Predictions:
            nonlocal last
            if own not in predictions:
                return predictions
            uncond, cond, concept = (predictions[role] for role in ("uncond", "cond", own))
            past = carried(last[1] if last and follows(at, last[0]) else None, cond)
            safe = safety_guidance(uncond, cond, concept, past, self.safety)
            beta = self.safety.momentum_beta
            past = (beta * past + (1 - beta) * safe).detach()
            last = at, shared(past) if self.safety.together else past
            rest = {role: value for role, value in predictions.items() if role != own}
            return rest if at.step < self.safety.warmup else rest | {"cond": cond - safe}

        with edit_guidance(backbone, edit, {own: self.prompt}):
            yield

    def spec(self) -> dict[str, Any]:
        """Prompt and numbers."""
        return {"prompt": self.prompt, **asdict(self.safety)}

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], spec: Mapping[str, Any]) -> SafetyGuidance:
        """From prompt and numbers."""
        numbers = dict(spec)
        return cls(numbers.pop("prompt"), Safety(**numbers))


def safety_guidance(uncond: Tensor, cond: Tensor, concept: Tensor, momentum: Tensor, safety: Safety) -> Tensor:
    """mu (concept - uncond) + s_m momentum, with mu = min(1, s |cond - concept|) where cond - concept < threshold.

    arXiv 2211.05105 eq. 5-8, element by element; the paper prints max for min, both released codes take min.
    """
    difference = cond - concept
    share = (safety.scale * difference.abs()).clamp_max(1)
    share = torch.where(difference < safety.threshold, share, torch.zeros_like(share))
    if safety.agreement:
        share = share * likeness(cond - uncond, concept - uncond) ** safety.agreement
    return share * (concept - uncond) + safety.momentum_scale * momentum


def follows(now: Moment, before: Moment) -> bool:
    """Whether a later step of the same run is computed now: a run keeps its condition, one object, throughout."""
    return now.condition is before.condition and now.step > before.step


def shared(momentum: Tensor) -> Tensor:
    """A clip's momentum (B, F, C, h, w) with the mean over frames in every frame; a picture's as it is."""
    return momentum.mean(1, keepdim=True).expand_as(momentum) if momentum.ndim == 5 else momentum


def carried(momentum: Tensor | None, like: Tensor) -> Tensor:
    """The momentum in the shape of a prediction: zeros at first, its token mean where the grid has changed."""
    if momentum is None:
        return torch.zeros_like(like)
    return momentum if momentum.shape == like.shape else momentum.mean(1, keepdim=True).expand_as(like)
