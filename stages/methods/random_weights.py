"""A random change of weights, as large as another method's: a reference that knows nothing of the concept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from stages.backbones.core.base import Backbone
from stages.interventions.weights import Weights
from stages.methods.random_direction import unit
from stages.methods.shared.base import load_method
from stages.params.concept import Concept
from stages.params.types import Makes


@dataclass(frozen=True)
class RandomWeights:
    """Another method's weights W + D, every change D replaced by |D| R with a random R of Frobenius norm 1."""

    MAKES: ClassVar[Makes] = {"of": "Weights"}

    of: str = "uce"  # the method whose changes are replaced

    def fit(self, backbone: Backbone, concept: Concept, *, seed: int) -> Weights:
        """The weights; ValueError if that method changes none."""
        learned = load_method(self.of, backbone.name, kind=concept.kind).fit(backbone, concept, seed=seed)
        if not isinstance(learned, Weights):
            raise ValueError(f"{self.of} made a {type(learned).__name__}: only changes of weights have a random twin")
        return Weights({name: moved(backbone, name, new, seed, i) for i, (name, new) in enumerate(learned.items())})


@torch.no_grad()
def moved(backbone: Backbone, name: str, new: Tensor, seed: int, index: int) -> Tensor:
    """A weight as far from the backbone's own as `new` is, in a random direction; float32."""
    own = backbone.addresses.parameter(name).float()
    return own + (new.to(own) - own).norm() * unit(own, seed, index).to(own)
