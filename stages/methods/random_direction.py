"""Steering along random directions, as long as another method's: a reference that knows nothing of the concept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from stages.backbones.core.base import Backbone
from stages.control.sites import Site
from stages.interventions.steering.steering import Steering
from stages.methods.shared.base import load_method
from stages.params.concept import Concept
from stages.params.types import Makes
from stages.seeds import Purpose, generator


@dataclass(frozen=True)
class RandomDirection:
    """Another method's steering, every direction v replaced by |v| u with a random unit vector u for each site.

    Sites, steps, strengths and gate stay. An effect that this has, too, is none of the direction that was learned.
    """

    MAKES: ClassVar[Makes] = {"of": "Steering"}

    of: str = "mean_difference"  # the method whose directions are replaced

    def fit(self, backbone: Backbone, concept: Concept, *, seed: int) -> Steering:
        """The steering; ValueError if that method moves nothing along a direction."""
        learned = load_method(self.of, backbone.name, kind=concept.kind).fit(backbone, concept, seed=seed)
        if not isinstance(learned, Steering) or not all("direction" in by for by in learned.maps.values()):
            raise ValueError(f"{self.of} steers along no direction on {backbone.name}: no random one can replace it")
        units: dict[Site, Tensor] = {}
        maps = {}
        for (site, step), by in learned.maps.items():
            own = by["direction"]
            if site not in units:
                units[site] = unit(own, seed, len(units))
            maps[site, step] = {**by, "direction": own.norm() * units[site].to(own)}
        same = learned.strengths
        return Steering(learned.form, maps, same, renorm=learned.renorm, gate=learned.gate, reuse=learned.reuse)


def unit(like: Tensor, seed: int, index: int) -> Tensor:
    """A random tensor of norm 1, of the shape of another, float32 on the CPU; `index` says which of a run's."""
    value = torch.randn(like.shape, generator=generator(Purpose.WEIGHTS, seed, index))
    return value / value.norm()
