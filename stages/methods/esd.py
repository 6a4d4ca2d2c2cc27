"""Erased Stable Diffusion (arXiv 2303.07345): the network learns to be guided away from the concept by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from stages.backbones.base import Backbone
from stages.concept import Concept
from stages.fields import Count, Natural, NonNegative, Rate
from stages.interventions.weights import Weights
from stages.methods.base import Prompts, frozen, preservation
from stages.objectives import negative_guidance
from stages.optimize import Schedule, minimize


@dataclass
class ESD:
    """Fine-tunes some weights so that the prediction for the concept becomes uncond - scale (cond - uncond).

    `train`: `x` cross-attention (the first attention where there is no cross-attention), `x_strict` its keys and
    values, `u` everything else, `all`. `preserve` weighs the distance to the frozen network on the retain prompts,
    which the paper does without.
    """

    train: Literal["x", "x_strict", "u", "all"] = "x"
    scale: NonNegative = 1.0
    steps: Count = 1000
    lr: Rate = 1e-5
    batch: Count = 1
    preserve: NonNegative = 0.0
    schedule: Schedule = "constant"
    warmup: Natural = 0

    def fit(self, backbone: Backbone, concept: Concept, *, seed: int) -> Weights:
        """Trains copies of the chosen weights on the frozen network's trajectories of the concept prompts."""
        backbone.gather(concept.prompts, seed)
        prompts, empty = Prompts.of(backbone, concept.prompts), backbone.encode([""]).repeat(self.batch)
        weights = Weights.copy(backbone, self.names(backbone))
        if self.preserve:
            backbone.gather(concept.retain, seed)
            retain = Prompts.of(backbone, concept.retain)

        def loss(step: int, generator: torch.Generator) -> Tensor:
            condition = prompts.draw(self.batch, generator)
            state = backbone.draw(condition, generator)
            uncond, cond = frozen(backbone, state, empty), frozen(backbone, state, condition)
            with weights.attach(backbone):
                student = backbone.predict(state, condition)
            value = backbone.distance(student, negative_guidance(uncond, cond, self.scale))
            if self.preserve:
                value = value + self.preserve * preservation(backbone, weights, retain, self.batch, generator)
            return value

        settings = {"steps": self.steps, "lr": self.lr, "schedule": self.schedule, "warmup": self.warmup}
        minimize(loss, weights.parameters(), **settings, optimizer="adam", seed=seed, label="esd")
        return weights

    def names(self, backbone: Backbone) -> list[str]:
        """The parameters that `train` chooses."""
        if self.train == "x_strict":
            return backbone.weights("cross_attn", "attn", projections=("key", "value"))
        cross = backbone.weights("cross_attn", "attn")
        everything = [name for name, _ in backbone.net.named_parameters()]
        chosen = {"x": cross, "all": everything, "u": [n for n in everything if n not in set(cross)]}
        return chosen[self.train]
