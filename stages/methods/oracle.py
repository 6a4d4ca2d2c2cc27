"""The oracle: the backbone trained from scratch on a world without the concept, the upper bound of every erasure."""

from __future__ import annotations

from dataclasses import dataclass

from stages.backbones import Backbone, load_settings
from stages.backbones.core.blueprint import Blueprint
from stages.interventions.weights import Weights
from stages.params.concept import Concept


@dataclass(frozen=True)
class Oracle:
    """The same architecture, training and budget, but the concept is never rendered."""

    @staticmethod
    def load_backbone(name: str) -> Blueprint:
        """The backbone without its weights, which this method does not need, so that both can be trained at once."""
        return Blueprint(name, *load_settings(name))

    @staticmethod
    def excluded(concept: Concept) -> str:
        """The concept's labels, colour first (`red circle`), which the world leaves out.

        ValueError for a concept without labels, or one that is to be learned.
        """
        if concept.aim != "erase":
            raise ValueError(f"an oracle never saw what is to be erased, and {concept.name} is to be learned")
        if not concept.target:
            raise ValueError(f"an oracle needs a target of {concept.name}: the labels that the world leaves out")
        if not all(isinstance(value, str) for value in concept.target.values()):
            raise ValueError(f"{concept.name} is several things, and a world leaves out one")
        return " ".join(concept.target[label] for label in sorted(concept.target))

    def fit(self, backbone: Backbone | Blueprint, concept: Concept, *, seed: int) -> Weights:
        """All weights of network and text encoders, trained without the concept; ValueError for a real checkpoint."""
        from stages.backbones.from_scratch import pretrain

        plan = Blueprint.of(backbone)
        if plan.settings.world is None:
            raise ValueError(f"an oracle needs a world to train in, and {plan.name} is a real checkpoint")
        twin = pretrain(plan.family, plan.name, plan.settings, seed=seed, exclude=self.excluded(concept))
        values = {name: p.detach() for name, p in twin.net.named_parameters()}
        for part, text in twin.texts.encoders().items():
            values |= {f"{part}.{name}": p.detach() for name, p in text.named_parameters()}
        return Weights(values)
