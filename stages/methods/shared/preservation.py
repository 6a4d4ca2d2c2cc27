"""What must not change: the distance to the frozen network on the retain prompts."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stages.backbones.core.base import Backbone
from stages.methods.shared.base import Attachable, Prompts, frozen, reread
from stages.params.concept import Concept


@dataclass(frozen=True)
class Preservation:
    """`weight` times the distance between edited and frozen network on random prompts that must not change.

    preservation = Preservation.of(backbone, concept, self.preserve, self.empty, seed)
    value = value + preservation(weights, self.batch, generator)
    """

    backbone: Backbone
    weight: float
    prompts: Prompts | None  # None if nothing is weighed

    @classmethod
    def of(cls, backbone: Backbone, concept: Concept, weight: float, empty: int, seed: int) -> Preservation:
        """On the retain prompts and `empty` times the empty one, whose trajectories are gathered with `seed`.

        ValueError if `empty` is set and `weight` is 0.
        """
        if empty and not weight:
            raise ValueError("empty counts the empty prompt among those that preserve weighs; set preserve, too")
        if not weight:
            return cls(backbone, 0.0, None)
        prompts = [*concept.retain, *[""] * empty]
        backbone.gather(prompts, seed)
        return cls(backbone, weight, Prompts.of(backbone, prompts))

    def __call__(self, attached: Attachable, batch: int, generator: torch.Generator) -> Tensor | float:
        """The weighted distance, a scalar, at a random state of `batch` random prompts; 0.0 without a draw if nothing
        is weighed."""
        if self.prompts is None:
            return 0.0
        condition = self.prompts.draw(batch, generator)
        state = self.backbone.draw(condition, generator)
        target = frozen(self.backbone, state, condition)
        with attached.attach(self.backbone):
            edited = self.backbone.predict(state, reread(self.backbone, condition))
            return self.weight * self.backbone.distance(edited, target)
