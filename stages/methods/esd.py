"""Erased Stable Diffusion (arXiv 2303.07345): the network learns to be guided away from the concept by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from stages.backbones.core.base import Backbone, Condition, State
from stages.interventions.weights import Weights
from stages.methods.shared.base import Prompts, States, frozen, preservation, reached, retained
from stages.methods.shared.trained_weights import Train, choose
from stages.objectives import away, negative_guidance
from stages.params.concept import Concept
from stages.params.types import Count, Natural, NonNegative, Rate
from stages.training.minimize import Schedule, minimize


@dataclass
class ESD:
    """Fine-tunes some weights so that the prediction for the concept becomes uncond - scale (cond - uncond).

    `train` and `blocks` are explained in stages.methods.shared.trained_weights. `states` says whose partial samples are
    trained on: those of the network in training (`student`, guided by `guidance`; the paper) or of the frozen one
    (`frozen`, made once; the released code). `origin`: the target starts from the unconditional prediction (the paper)
    or from that of the `source` prompt (the released code, whose scale is therefore larger by 1); the source is the concept's own
    prompt, or `erase_from`, in which alone the concept is then erased. `preserve` weighs the distance to the frozen
    network on the retain prompts, which the paper does without; the empty prompt, from which guidance starts, counts as
    `empty` of them. A step takes the mean gradient of `accumulate` batches, one after another.
    """

    train: Train = "x"
    blocks: tuple[int, ...] = ()
    scale: NonNegative = 1.0
    states: States = "student"
    guidance: NonNegative = 3.0
    origin: Literal["uncond", "source"] = "uncond"
    erase_from: str | None = None
    steps: Count = 1000
    lr: Rate = 1e-5
    batch: Count = 1
    accumulate: Count = 1
    preserve: NonNegative = 0.0
    empty: Natural = 0
    schedule: Schedule = "constant"
    warmup: Natural = 0

    def fit(self, backbone: Backbone, concept: Concept, *, seed: int) -> Weights:
        """Trains copies of the chosen weights on partial samples of the concept prompts."""
        if self.erase_from is not None and self.origin == "uncond":
            raise ValueError("erase_from needs origin: source")
        source = concept.prompts if self.erase_from is None else (self.erase_from,)
        prompts, begin = Prompts.of(backbone, concept.prompts), Prompts.of(backbone, source)
        empty = backbone.encode([""]).repeat(self.batch)
        weights = Weights.copy(backbone, choose(backbone, self.train, self.blocks))
        if self.states == "frozen":
            backbone.gather(source, seed)
        kept = retained(concept, self.preserve, self.empty)
        if self.preserve:
            backbone.gather(kept, seed)
            retain = Prompts.of(backbone, kept)

        def loss(step: int, generator: torch.Generator) -> Tensor:
            rows = prompts.indices(self.batch, generator)
            erased = prompts.condition.rows(rows)
            start = erased if self.erase_from is None else begin.draw(self.batch, generator)
            state = reached(backbone, weights, start, generator, self.states, self.guidance)
            value = erasure(backbone, weights, state, erased, empty, self.scale, start, self.origin == "source")
            if self.preserve:
                value = value + self.preserve * preservation(backbone, weights, retain, self.batch, generator)
            return value

        settings = {"steps": self.steps, "lr": self.lr, "schedule": self.schedule, "warmup": self.warmup}
        settings |= {"accumulate": self.accumulate, "half": backbone.half}
        minimize(loss, weights.parameters(), **settings, optimizer="adam", seed=seed, label="esd")
        return weights


def erasure(
    backbone: Backbone,
    weights: Weights,
    state: State,
    erased: Condition,
    empty: Condition,
    scale: float,
    source: Condition | None = None,
    from_source: bool = False,
) -> Tensor:
    """The distance of the student's prediction for `source` (the concept) to the frozen one pushed off the concept."""
    source = erased if source is None else source
    uncond, cond = frozen(backbone, state, empty), frozen(backbone, state, erased)
    if from_source:
        target = away(frozen(backbone, state, source), uncond, cond, scale)
    else:
        target = negative_guidance(uncond, cond, scale)
    with weights.attach(backbone):
        student = backbone.predict(state, source)
    return backbone.distance(student, target)
