"""Concept Ablation (arXiv 2303.13516): the concept's prediction becomes that of an anchor, the prompt without it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from stages.backbones.core.base import Backbone, Condition, State
from stages.interventions.weights import Weights
from stages.methods.shared.base import Prompts, frozen, noised, preservation, retained
from stages.methods.shared.trained_weights import Train, choose
from stages.objectives import negative_guidance
from stages.params.concept import Concept
from stages.params.types import Count, Natural, NonNegative, Rate
from stages.training.minimize import Schedule, minimize


@dataclass
class ConceptAblation:
    """Fine-tunes some weights so that the prediction for the concept becomes that for the neutral prompt.

    `target`: the prediction for the anchor, without gradient (`model`), or the noise itself (`noise`). `anchor` says
    whose prediction that is: of the network in training (the paper) or of the frozen one. `states`: anchor pictures
    noised at a random time (the paper), or steps of their trajectories. `prior` weighs the ordinary denoising loss on
    anchor pictures; `preserve` the distance to the frozen network on the retain prompts, which the paper does without;
    the empty prompt, from which guidance starts, counts as `empty` of them.
    `push` moves the target beyond the anchor's prediction, away from the concept's: where neutral prompts show the
    concept now and then, they are the floor of an erasure that only equals them; the paper does without this too.
    `first_token` off cuts the gradient through the first token's keys and values, as the released code does.
    A step takes the mean gradient of `accumulate` batches, one after another.
    """

    train: Train = "cross-attn"
    target: Literal["model", "noise"] = "model"
    anchor: Literal["student", "frozen"] = "student"
    states: Literal["noised", "trajectory"] = "noised"
    prior: NonNegative = 1.0
    preserve: NonNegative = 0.0
    empty: Natural = 0
    push: NonNegative = 0.0
    first_token: bool = True
    steps: Count = 100
    lr: Rate = 2e-6
    batch: Count = 4
    accumulate: Count = 1
    weight_decay: NonNegative = 1e-2
    clip: Rate = 1.0
    schedule: Schedule = "constant"
    warmup: Natural = 0

    def fit(self, backbone: Backbone, concept: Concept, *, seed: int) -> Weights:
        """Trains copies of the chosen weights on pictures of the neutral prompts."""
        if self.states == "trajectory" and (self.target == "noise" or self.prior):
            raise ValueError("the noise is known only for states: noised; choose target: model and prior: 0")
        pairs = concept.pairs()
        backbone.gather(concept.neutral, seed)
        concepts, anchors = (Prompts.of(backbone, side) for side in zip(*pairs, strict=True))
        weights = Weights.copy(backbone, choose(backbone, self.train))
        kept = retained(concept, self.preserve, self.empty)
        if self.preserve:
            backbone.gather(kept, seed)
            retain = Prompts.of(backbone, kept)

        def loss(step: int, generator: torch.Generator) -> Tensor:
            rows = concepts.indices(self.batch, generator)
            anchor = anchors.condition.rows(rows)
            state, noise = self._state(backbone, anchor, generator)
            value = self.ablation(backbone, weights, state, concepts.condition.rows(rows), anchor, noise)
            if self.prior:
                value = value + self.prior * self._prior(backbone, weights, anchors, generator)
            if self.preserve:
                value = value + self.preserve * preservation(backbone, weights, retain, self.batch, generator)
            return value

        settings = {"steps": self.steps, "lr": self.lr, "schedule": self.schedule, "warmup": self.warmup}
        settings |= {"weight_decay": self.weight_decay, "clip": self.clip, "half": backbone.half}
        settings |= {"accumulate": self.accumulate}
        minimize(loss, weights.parameters(), **settings, seed=seed, label="concept_ablation")
        return weights

    def ablation(
        self,
        backbone: Backbone,
        weights: Weights,
        state: State,
        erased: Condition,
        anchor: Condition,
        noise: Tensor | None,
    ) -> Tensor:
        """The distance of the student's prediction for the concept to its target at the same state."""
        if self.target == "noise":
            target = noise
        elif self.anchor == "frozen":
            target = frozen(backbone, state, anchor)
        else:
            with weights.attach(backbone):
                target = frozen(backbone, state, anchor)
        if self.push:
            target = negative_guidance(target, frozen(backbone, state, erased), self.push)
        return backbone.distance(self.student(backbone, weights, state, erased), target)

    def student(self, backbone: Backbone, weights: Weights, state: State, condition: Condition) -> Tensor:
        """The prediction with the trained weights, for the gradient."""
        with weights.attach(backbone):
            if self.first_token:
                return backbone.predict(state, condition)
            with first_token_cut(backbone):
                return backbone.predict(state, condition)

    def _state(self, backbone: Backbone, anchor: Condition, generator: torch.Generator) -> tuple[State, Tensor | None]:
        if self.states == "trajectory":
            return backbone.draw(anchor, generator), None
        return noised(backbone, anchor, generator)

    def _prior(self, backbone: Backbone, weights: Weights, anchors: Prompts, generator: torch.Generator) -> Tensor:
        condition = anchors.draw(self.batch, generator)
        state, noise = noised(backbone, condition, generator)
        return backbone.distance(self.student(backbone, weights, state, condition), noise)


@contextmanager
def first_token_cut(backbone: Backbone) -> Iterator[None]:
    """Stops the gradient into the keys and values of the text's first token; no value changes."""

    def cut(_module: object, _args: object, output: Tensor) -> Tensor:
        return torch.cat([output[:, :1].detach(), output[:, 1:]], dim=1)

    paths = {name.rpartition(".")[0] for name in backbone.weights("cross_attn", projections=("key", "value"))}
    hooks = [backbone.net.get_submodule(path).register_forward_hook(cut) for path in sorted(paths)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
