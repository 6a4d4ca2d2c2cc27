"""Mean-difference steering (arXiv 2308.10248, 2312.06681): one vector per layer and step, added everywhere."""

from __future__ import annotations

from dataclasses import dataclass

from stages.backbones.core.base import Backbone
from stages.documented.setups import ALL
from stages.interventions.steering.gates import Gate
from stages.interventions.steering.steering import Mode, Steering
from stages.methods.prototype_steering import PrototypeSteering
from stages.methods.shared.classes import Against, Location
from stages.params.concept import Concept
from stages.params.types import Count, Fraction


@dataclass
class MeanDifference:
    """Adds strength (mu_without - mu_with) to every token at a location, at all steps and layers; trains nothing.

    The plain method moves every sample; a `gate` keeps to those that look like the concept's, see `PrototypeSteering`.
    """

    strength: float = 1.0
    location: Location = "ca_block"
    layers: tuple[int, ...] = (ALL,)
    mode: Mode = "CONDITIONAL"
    samples: Count = 96
    gate: Gate = "none"
    against: Against = "target"
    threshold: Fraction = 0.25
    quantile: Fraction = 0.98

    def fit(self, backbone: Backbone, concept: Concept, *, seed: int) -> Steering:
        """Prototype steering with one strength for all."""
        if self.location == "text" and self.mode == "UNCONDITIONAL":
            raise ValueError("mode: UNCONDITIONAL is of the image, which location: text leaves alone")
        layers, options = list(self.layers), {"mode": self.mode, "samples": self.samples}
        options |= {"gate": self.gate, "against": self.against}
        options |= {"threshold": self.threshold, "quantile": self.quantile}
        if self.location == "text":
            setup = {"layers_text": layers, "strength_text": self.strength}
            return PrototypeSteering(steering="TEXT", setup=setup, **options).fit(backbone, concept, seed=seed)
        scale = {"layers": layers, "strength_cond": self.strength, "strength_uncond": self.strength}
        method = PrototypeSteering(location=self.location, setup={"scales": {"all": scale}}, **options)
        return method.fit(backbone, concept, seed=seed)
