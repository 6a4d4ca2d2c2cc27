"""S-VARE (arXiv 2509.22400): erasure made for Infinity, on the bits of pictures without the concept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from stages.backbones.core.base import Backbone
from stages.backbones.core.capabilities import Bits, needs
from stages.control.state import Condition, State
from stages.interventions.weights import Weights
from stages.methods.shared.base import Prompts, frozen, preservation
from stages.objectives import bit_divergence, filtered_cross_entropy
from stages.params.concept import Concept
from stages.params.types import Count, Fraction, Natural, NonNegative, Rate
from stages.training.minimize import Schedule, minimize


@dataclass
class SVARE:
    """Teaches the concept's prompt the bits of neutral pictures, only at tokens where it gets many of them wrong.

    Tokens with at least `share` wrong bits count, over the full length (`length`, the paper), over the tokens kept, or
    with all scales alike (`scales`). `preserve` weighs the divergence of student and frozen network on the neutral
    prompt and the same bits; `half` averages it over both states of a bit, as the released code does, which also
    takes an optimizer step for each loss (`alternate`). `retain` weighs the distance to the frozen network on the
    retain prompts, which the paper does without.
    """

    share: Fraction = 0.25
    normalise: Literal["length", "kept", "scales"] = "length"
    preserve: NonNegative = 1.0
    half: bool = False
    alternate: bool = False
    retain: NonNegative = 0.0
    steps: Count = 500
    lr: Rate = 2e-3
    batch: Count = 2
    weight_decay: NonNegative = 1e-2
    schedule: Schedule = "constant"
    warmup: Natural = 0

    def fit(self, backbone: Backbone, concept: Concept, *, seed: int) -> Weights:
        """Trains copies of cross-attention and feed-forward on neutral pictures; ValueError without bits."""
        needs(backbone, Bits, "S-VARE erases them; choose an Infinity backbone")
        shown, neutral = (Prompts.of(backbone, side) for side in zip(*concept.pairs(), strict=True))
        backbone.gather([*concept.neutral, *(concept.retain if self.retain else ())], seed)
        retain = Prompts.of(backbone, concept.retain)
        weights = Weights.copy(backbone, [*backbone.weights("cross_attn"), *backbone.weights("ff")])

        def loss(step: int, generator: torch.Generator) -> Tensor:
            rows = shown.indices(self.batch, generator)
            anchor = neutral.condition.rows(rows)
            state = backbone.draw(anchor, generator)
            value = torch.zeros((), device=backbone.device)
            if not self.alternate or step % 2 == 0:
                value = value + self.erasure(backbone, weights, state, shown.condition.rows(rows))
            if not self.alternate or step % 2 == 1:
                value = value + self.preserve * self.divergence(backbone, weights, state, anchor)
            if self.retain:
                value = value + self.retain * preservation(backbone, weights, retain, self.batch, generator)
            return value

        settings = {"lr": self.lr, "schedule": self.schedule, "warmup": self.warmup, "weight_decay": self.weight_decay}
        steps = self.steps * (2 if self.alternate else 1)
        minimize(loss, weights.parameters(), steps=steps, **settings, half=backbone.half, seed=seed, label="s_vare")
        return weights

    def erasure(self, backbone: Backbone, weights: Weights, state: State, condition: Condition) -> Tensor:
        """The filtered cross-entropy of the neutral picture's bits under the concept's prompt."""
        with weights.attach(backbone):
            margins = backbone.predict(state, condition)
        return self.filtered(margins, state.final, backbone.schedule.lengths)

    def filtered(self, margins: Tensor, bits: Tensor, scales: tuple[int, ...]) -> Tensor:
        """The filtered cross-entropy as `normalise` has it."""
        options = {"scales": scales if self.normalise == "scales" else None, "kept": self.normalise == "kept"}
        return filtered_cross_entropy(margins.float(), bits, self.share, **options)

    def divergence(self, backbone: Backbone, weights: Weights, state: State, anchor: Condition) -> Tensor:
        """What separates student and frozen network under the neutral prompt."""
        teacher = frozen(backbone, state, anchor)
        with weights.attach(backbone):
            student = backbone.predict(state, anchor)
        return self.apart(teacher, student)

    def apart(self, teacher: Tensor, student: Tensor) -> Tensor:
        """The divergence of two predictions, halved if asked."""
        return bit_divergence(teacher.float(), student.float()) * (0.5 if self.half else 1.0)
