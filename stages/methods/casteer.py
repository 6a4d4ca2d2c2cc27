"""CASteer (arXiv 2503.09630): the concept's direction removed from every cross-attention output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from stages.backbones.core.base import Backbone
from stages.interventions.steering.gates import Gate, gate_tensors
from stages.interventions.steering.steering import Mode, Steering, decayed, role_strengths
from stages.methods.shared.classes import Against, Classes, Location, activations, kept_out, sites_at
from stages.objectives.statistics import unit_direction
from stages.params.concept import Concept
from stages.params.types import Count, Fraction, NonNegative


@dataclass
class CASteer:
    """Removes each token's part along the concept's direction in cross-attention, keeping its length; trains nothing.

    The direction is the normalised mean difference between prompts with the concept and without, per layer and step.
    `erase`: h - strength max(0, <h, v>) v, where 2 reflects; `add`: h + strength v, which `decay` lets fall. The paper
    moves every sample; a `gate` keeps to those that look like the concept's, see `PrototypeSteering`.
    """

    action: Literal["erase", "add"] = "erase"
    strength: NonNegative = 2.0
    samples: Count = 50
    location: Location = "ca"
    mode: Mode = "BOTH"
    decay: bool = False
    gate: Gate = "none"
    against: Against = "target"
    threshold: Fraction = 0.25
    quantile: Fraction = 0.98

    def fit(self, backbone: Backbone, concept: Concept, *, seed: int) -> Steering:
        """Samples both classes from the same noise and keeps their directions."""
        sites, classes = sites_at(backbone, self.location), Classes.of(concept, self.samples)
        source = activations(backbone, classes.source, sites, seed)
        target = activations(backbone, classes.target, sites, seed)
        others = kept_out(backbone, concept, sites, self.samples, seed, self.gate, self.against) or target
        maps, strengths = {}, {}
        for site in sites:
            steps = source.steps(site)
            for step in steps:
                shows = source.get(site, step)
                direction = unit_direction(shows, target.get(site, step))
                if direction.any():
                    size = self.strength * (decayed(step, len(steps)) if self.decay else 1)
                    gate = gate_tensors(self.gate, shows, others.get(site, step), self.threshold, self.quantile)
                    maps[site, step] = {"direction": direction} | gate
                    strengths[site, step] = role_strengths(self.mode, size, size)
        form = "erase" if self.action == "erase" else "shift"
        return Steering(form, maps, strengths, renorm=True, gate=self.gate, reuse=True)
