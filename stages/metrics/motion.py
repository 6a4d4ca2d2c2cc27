"""How much a clip moves and how consistent its frames are, so that one that stands still does not score well.

Frames are consistent after the rule of VBench (arXiv 2311.17982) with CLIP's vectors: the mean cosine to the first
frame and to the one before. A frozen clip would have the best of all; here it has none.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stages.metrics.base import GROUP, Column, Metric, Statistics, Value, change, rate, rate_change
from stages.metrics.clip_score import embed_frames, load_clip
from stages.metrics.clips import mean
from stages.metrics.intervals import DRAWS, number_prompts
from stages.metrics.samples import Samples, finite
from stages.params.types import Count, NonNegative


@dataclass(frozen=True)
class Motion(Metric):
    """motion: the mean absolute difference of consecutive frames. still: it is at most `least`.

    consistency: of the frames, 0 for a clip that stands still. For clips alone.
    """

    model: str = "openai/clip-vit-base-patch32"  # folder or hub id of the CLIP that compares frames
    least: NonNegative = 0.002  # motion up to which a clip stands still; half a step of 8 bits is 0.002
    draws: Count = DRAWS  # resamples of the bootstrap
    seed: int = 0  # of the bootstrap

    def features(self, samples: Samples) -> Tensor:
        """Motion and consistency, (N, 2); ValueError for pictures, FloatingPointError for features not finite."""
        if samples.images.ndim != 5 or samples.images.shape[1] < 2:
            raise ValueError("motion judges clips of two frames at least; leave it out of studies of pictures")
        moved = [(p.images[:, 1:] - p.images[:, :-1]).abs().flatten(1).double().mean(1) for p in samples.parts()]
        embedded = finite(embed_frames(load_clip(self.model)[0], samples.images), samples, "CLIP's features").double()
        first = (embedded[:, 1:] * embedded[:, :1]).sum(-1)
        before = (embedded[:, 1:] * embedded[:, :-1]).sum(-1)
        consistent = ((first.clamp(min=0) + before.clamp(min=0)) / 2).mean(1)
        return torch.stack([torch.cat(moved), consistent], 1)

    def statistics(self, features: Tensor, samples: Samples) -> Statistics:
        motion, consistent = features.unbind(1)
        still = (motion <= self.least).double()
        told = {"motion": motion, "still": still, "consistency": consistent * (1 - still)}
        return told | {GROUP: number_prompts(samples.prompts)}

    def score(self, edited: Statistics, original: Statistics | None) -> dict[str, Value]:
        groups, values = edited[GROUP], {"still_rate": rate(edited["still"], edited[GROUP])}
        for name in ("motion", "consistency"):
            values[name] = mean(edited[name], groups, seed=self.seed, draws=self.draws)
            if original is not None:
                values[f"{name}_change"] = change(
                    edited[name], original[name], groups, seed=self.seed, draws=self.draws
                )
        if original is not None:
            values["still_rate_change"] = rate_change(edited["still"], original["still"], groups)
        return values

    def outcomes(self, edited: Statistics, original: Statistics | None) -> dict[str, Tensor]:
        return {name: values for name, values in edited.items() if name != GROUP}

    def rescored(self, edited: Statistics, original: Statistics | None) -> dict[str, Value]:
        return self.score(edited, original)

    def columns(self) -> tuple[Column, ...]:
        return (
            Column("retain", "motion", "Motion", ""),
            Column("retain", "still_rate", "Clips that stand still", "low"),
            Column("retain", "consistency", "Consistency of moving clips", "high"),
        )
