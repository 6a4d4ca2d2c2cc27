"""Pure tensor functions, one per equation, each citing it."""

from stages.objectives.bits import bit_cross_entropy, bit_divergence, filtered_cross_entropy, wrong_tokens
from stages.objectives.erasure import (
    Reduction,
    clean_from_noise,
    contrast,
    edited_weight,
    gumbel_softmax,
    masked_error,
    outside,
    projected_out,
    revived,
    salient,
    squared_inside,
)
from stages.objectives.guidance import away, negative_guidance
from stages.objectives.masks import HARD, erase_and_preserve, hard_concrete, keep_gap, masked, open_probability
from stages.objectives.sampling import guide

__all__ = [
    "HARD",
    "Reduction",
    "away",
    "bit_cross_entropy",
    "bit_divergence",
    "clean_from_noise",
    "contrast",
    "edited_weight",
    "erase_and_preserve",
    "filtered_cross_entropy",
    "guide",
    "gumbel_softmax",
    "hard_concrete",
    "keep_gap",
    "masked",
    "masked_error",
    "negative_guidance",
    "open_probability",
    "outside",
    "projected_out",
    "revived",
    "salient",
    "squared_inside",
    "wrong_tokens",
]
