"""The oracle: a backbone that was trained on a world without the concept, the upper bound of every erasure."""

from __future__ import annotations

from dataclasses import dataclass

from stages.backbones import Backbone, load_backbone, load_settings
from stages.backbones.core.blueprint import Blueprint
from stages.backbones.core.family import Family
from stages.interventions.weights import Weights
from stages.params.concept import Concept
from stages.params.oracles import excluded, twin


@dataclass(frozen=True)
class Oracle:
    """The same architecture, training and budget, but the concept is never rendered."""

    @staticmethod
    def load_backbone(name: str) -> Blueprint:
        """The backbone without its weights, which this method does not need, so that both can be made at once."""
        return Blueprint(name, *load_settings(name))

    def fit(self, backbone: Backbone | Blueprint, concept: Concept, *, seed: int) -> Weights:
        """All weights of network and text encoders of a twin that was never shown the concept.

        It is the `oracle` of the backbone's file, if its training left the concept out; else one is trained here, from
        `seed`. ValueError for a real checkpoint.
        """
        plan = Blueprint.of(backbone)
        if plan.settings.world is None:
            raise ValueError(f"an oracle needs a world to train in, and {plan.name} is a real checkpoint")
        known = twin(plan.settings.oracle, concept)
        made = load_backbone(known) if known else trained(plan, concept, seed)
        values = {name: p.detach() for name, p in made.net.named_parameters()}
        for part, text in made.texts.encoders().items():
            values |= {f"{part}.{name}": p.detach() for name, p in text.named_parameters()}
        return Weights(values)


def trained(plan: Blueprint, concept: Concept, seed: int) -> Family:
    """A backbone of the same build and training whose world leaves the concept out."""
    from stages.backbones.from_scratch import pretrain

    return pretrain(plan.family, plan.name, plan.settings, seed=seed, exclude=excluded(concept))
