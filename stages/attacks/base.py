"""What attacks share: the interface, what a search returns, and loading by name."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from stages.backbones.core.base import Backbone
from stages.interventions.base import Identity, Intervention
from stages.params import build, load_params
from stages.params.concept import Concept


@dataclass(frozen=True)
class Attempt:
    """Prompts that may bring the concept back, and what has to be attached (a learned embedding) for them to."""

    prompts: tuple[str, ...]
    intervention: Intervention = field(default_factory=Identity)
    notes: dict[str, Any] = field(default_factory=dict)  # primitives for the record


class Attack(Protocol):
    """A dataclass whose fields are the hyperparameters."""

    def search(self, backbone: Backbone, concept: Concept, *, seed: int) -> Attempt:
        """Looks for the concept in the backbone as it is now, erased or not."""


def load_attack(name: str, root: Path | str = "params") -> Attack:
    """The attack of params/attacks/<name>.yaml."""
    content = {key: value for key, value in load_params("attacks", name, root).items() if key != "families"}
    return build(content, f"{root}/attacks/{name}.yaml")
