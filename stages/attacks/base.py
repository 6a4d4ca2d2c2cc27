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
    """The result of a search."""

    prompts: tuple[str, ...]  # that may bring the concept back
    intervention: Intervention = field(default_factory=Identity)  # to attach with them, such as a learned embedding
    notes: dict[str, Any] = field(default_factory=dict)  # primitives for the record


class Attack(Protocol):
    """A dataclass whose fields are the hyperparameters. It is used inside the intervention that it attacks:

        with intervention.attach(backbone):
            attempt = load_attack("ring_a_bell").search(backbone, concept, seed=0)
            with attempt.intervention.attach(backbone):
                pictures = backbone.sample(backbone.encode(attempt.prompts), seeds=[0], steps=20, guidance=7.5)

    A file of params/attacks/ names its class.
    """

    def search(self, backbone: Backbone, concept: Concept, *, seed: int) -> Attempt:
        """Looks for the concept in the backbone as it is now, erased or not.

        ValueError for a backbone that the attack cannot search in.
        """


def load_attack(name: str, root: Path | str = "params") -> Attack:
    """The attack of params/attacks/<name>.yaml; ValueError names the file and key that is wrong."""
    content = {key: value for key, value in load_params("attacks", name, root).items() if key != "families"}
    return build(content, f"{root}/attacks/{name}.yaml")
