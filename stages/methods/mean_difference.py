"""Mean-difference steering (arXiv 2308.10248, 2312.06681): one vector per layer and step, added everywhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from stages.backbones.core.base import Backbone
from stages.documented.setups import ALL
from stages.interventions.steering.steering import Mode, Steering
from stages.methods.prototype_steering import PrototypeSteering
from stages.methods.shared.classes import Gated, Location
from stages.params.concept import Concept
from stages.params.types import Needs


@dataclass(frozen=True, kw_only=True)
class MeanDifference(Gated):
    """h + strength (mu_without - mu_with) for every token at a location, with the means of each layer and step.

    The plain method moves every sample. arXiv 2308.10248, 2312.06681.
    """

    NEEDS: ClassVar[Needs] = {"mode": {"location": ("ffn", "ca", "ca_block")}}

    strength: float = 1.0  # 1 moves one mean to the other
    location: Location = "ca_block"  # which activations
    layers: tuple[int, ...] = (ALL,)  # of the location, from 0; -1: all
    mode: Mode = "CONDITIONAL"  # which half of guidance is moved

    def fit(self, backbone: Backbone, concept: Concept, *, seed: int) -> Steering:
        """Prototype steering with one strength for all; ValueError for `mode: UNCONDITIONAL` of text."""
        if self.location == "text" and self.mode == "UNCONDITIONAL":
            raise ValueError("mode: UNCONDITIONAL is of the image, which location: text leaves alone")
        layers, options = list(self.layers), {"mode": self.mode} | self.gating()
        if self.location == "text":
            setup = {"layers_text": layers, "strength_text": self.strength}
            return PrototypeSteering(steering="TEXT", setup=setup, **options).fit(backbone, concept, seed=seed)
        scale = {"layers": layers, "strength_cond": self.strength, "strength_uncond": self.strength}
        method = PrototypeSteering(location=self.location, setup={"scales": {"all": scale}}, **options)
        return method.fit(backbone, concept, seed=seed)
