"""S-VARE (arXiv 2509.22400): erasure made for Infinity, on the bits of pictures without the concept."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from stages.backbones.core.base import Backbone
from stages.backbones.core.capabilities import Bits, needs
from stages.control.state import Condition, State
from stages.interventions.weights import Weights
from stages.methods.shared.base import Prompts, frozen
from stages.methods.shared.data import FromPairs
from stages.methods.shared.preservation import Preservation
from stages.objectives import bit_divergence, filtered_cross_entropy
from stages.params.concept import Concept
from stages.params.kept import Reads
from stages.params.types import Count, Fraction, NonNegative, Rate
from stages.training.float16 import LossScale
from stages.training.minimize import minimize
from stages.training.settings import Training

ADVICE = "S-VARE erases them; choose an Infinity backbone"


@dataclass(frozen=True, kw_only=True)
class SVARE(FromPairs, Training):
    """The cross-entropy of neutral pictures' bits under the concept's prompt, at tokens that it gets wrong,
    + preserve KL(frozen || student) under the neutral prompt. arXiv 2509.22400.

    Trains copies of cross-attention and feed-forward.
    """

    READS: ClassVar[Reads] = {"": "all"}

    share: Fraction = 0.25  # of a token's bits that must be wrong for it to count
    # What the loss is divided by: all tokens (`length`, the paper), those that count (`kept`), or all scales alike.
    normalise: Literal["length", "kept", "scales"] = "length"
    preserve: NonNegative = 1.0  # weight of the divergence
    half: bool = False  # half the divergence: the released code averages over both states of a bit
    alternate: bool = False  # an optimizer step for each loss in turn, as in the released code: twice the steps
    retain: NonNegative = 0.0  # weight of the distance to the frozen network on retain prompts; the paper has none
    batch: Count = 2
    steps: Count = 500
    lr: Rate = 2e-3
    weight_decay: NonNegative = 1e-2

    def fit(self, backbone: Backbone, concept: Concept, *, seed: int) -> Weights:
        """The trained weights; ValueError for a backbone that predicts no bits."""
        concept = self.learned(concept)
        needs(backbone, Bits, ADVICE)
        shown, neutral = (Prompts.of(backbone, side) for side in zip(*concept.pairs(), strict=True))
        backbone.gather([*concept.neutral, *(concept.retain if self.retain else ())], seed)
        preservation = Preservation.of(backbone, concept, self.retain, 0, seed)
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
            return value + preservation(weights, self.batch, generator)

        training = replace(self, steps=self.steps * (2 if self.alternate else 1))
        scale = LossScale(backbone.through_float16)
        minimize(loss, weights.parameters(), training, seed=seed, label="s_vare", companions=[scale])
        return weights

    def erasure(self, backbone: Backbone, weights: Weights, state: State, condition: Condition) -> Tensor:
        """The filtered cross-entropy, a scalar, of the neutral picture's bits under the concept's prompt."""
        lengths = needs(backbone, Bits, ADVICE).schedule.lengths
        with weights.attach(backbone):
            margins = backbone.predict(state, condition)
        return self.filtered(margins, state.end(), lengths)

    def filtered(self, margins: Tensor, bits: Tensor, scales: tuple[int, ...]) -> Tensor:
        """The filtered cross-entropy, a scalar, of margins and bits (B, L, bits), divided as `normalise` says.

        `scales` are the tokens of each scale.
        """
        alike, kept = scales if self.normalise == "scales" else None, self.normalise == "kept"
        return filtered_cross_entropy(margins.float(), bits, self.share, scales=alike, kept=kept)

    def divergence(self, backbone: Backbone, weights: Weights, state: State, anchor: Condition) -> Tensor:
        """The divergence, a scalar, of student and frozen network under the neutral prompt."""
        teacher = frozen(backbone, state, anchor)
        with weights.attach(backbone):
            student = backbone.predict(state, anchor)
        return self.separation(teacher, student)

    def separation(self, teacher: Tensor, student: Tensor) -> Tensor:
        """The divergence, a scalar, of two predictions (B, L, bits), halved if asked."""
        return bit_divergence(teacher.float(), student.float()) * (0.5 if self.half else 1.0)
