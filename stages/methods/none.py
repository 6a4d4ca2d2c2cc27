"""The unedited backbone as an ordinary row."""

from __future__ import annotations

from dataclasses import dataclass

from stages.backbones.core.base import Backbone
from stages.interventions.base import Identity
from stages.params.concept import Concept


@dataclass(frozen=True)
class NoMethod:
    """Changes nothing: the baseline that every other row is compared with."""

    def fit(self, backbone: Backbone, concept: Concept, *, seed: int) -> Identity:
        """The identity."""
        return Identity()
