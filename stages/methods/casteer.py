"""CASteer (arXiv 2503.09630): the concept's direction removed from every cross-attention output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from stages.backbones.core.base import Backbone
from stages.interventions.steering.maps import Form
from stages.interventions.steering.steering import Mode, Steering, decayed, role_strengths
from stages.methods.shared.classes import Classes, Gated, Location, activations, sites_at
from stages.objectives.statistics import unit_direction
from stages.params.concept import Concept
from stages.params.types import Count, Departs, NonNegative


@dataclass(frozen=True, kw_only=True)
class CASteer(Gated):
    """h - strength max(0, <h, v>) v of every token, at its old length, for a unit vector v per layer and step: the
    difference of mean activations with the concept and without. arXiv 2503.09630.

    The paper moves every sample.
    """

    DEPARTS: ClassVar[Departs] = {"location": "location: {location}", "gate": "gate: {gate}"}

    action: Literal["erase", "add"] = "erase"  # `add` is h + strength v
    strength: NonNegative = 2.0  # 1 projects the concept out, 2 reflects it
    samples: Count = 50
    location: Location = "ca"  # which activations
    mode: Mode = "BOTH"  # which half of guidance is moved
    decay: bool = False  # lets the strength fall over the steps

    def fit(self, backbone: Backbone, concept: Concept, *, seed: int) -> Steering:
        """Samples both classes from the same noise and keeps their directions."""
        concept = self.learned(concept)
        sites, classes = sites_at(backbone, self.location), Classes.of(concept, self.samples)
        source = activations(backbone, classes.source, sites, seed)
        target = activations(backbone, classes.target, sites, seed)
        others = self.others(backbone, concept, sites, seed, target)
        maps, strengths = {}, {}
        for site in sites:
            steps = source.steps(site)
            for step in steps:
                shows = source.get(site, step)
                direction = unit_direction(shows, target.get(site, step))
                if direction.any():
                    size = self.strength * (decayed(step, len(steps)) if self.decay else 1)
                    maps[site, step] = {"direction": direction} | self.tensors(shows, others.get(site, step))
                    strengths[site, step] = role_strengths(self.mode, size, size)
        form: Form = "erase" if self.action == "erase" else "shift"
        return Steering(form, maps, strengths, renorm=True, gate=self.gate, reuse=True)
