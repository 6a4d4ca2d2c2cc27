"""The unedited backbone as an ordinary row."""

from __future__ import annotations

from dataclasses import dataclass

from stages.backbones.base import Backbone
from stages.concept import Concept
from stages.interventions.base import Identity


@dataclass
class NoMethod:
    """Changes nothing: the baseline that every other row is compared with."""

    def fit(self, backbone: Backbone, concept: Concept, *, seed: int) -> Identity:
        """The identity."""
        return Identity()
