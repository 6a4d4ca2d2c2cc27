"""How far samples moved from those of the unedited backbone on the same prompts and seeds."""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from stages.metrics.base import GROUP, Column, Metric, Statistics, Value
from stages.metrics.intervals import DRAWS, bootstrap, number_prompts
from stages.metrics.judged import JUDGE, WORLDS, judge_features
from stages.metrics.samples import Samples, floats
from stages.params.types import Count


@dataclass(frozen=True)
class Drift(Metric):
    """The mean absolute difference of pixels in [0, 1], and the Euclidean one of standardised judge features."""

    WORLDS: ClassVar[tuple[str, ...]] = WORLDS

    judge: str = JUDGE  # folder of the judge; {world}: of the backbone's world
    draws: Count = DRAWS  # resamples of the bootstrap
    seed: int = 0  # of the bootstrap

    def features(self, samples: Samples) -> Tensor:
        """Judge features, (N, D); those of a clip are the mean over its frames."""
        return judge_features(self.judge, samples).mean(1)

    def statistics(self, features: Tensor, samples: Samples) -> Statistics:
        return {"features": features, "pixels": samples.images.flatten(1), GROUP: number_prompts(samples.prompts)}

    def score(self, edited: Statistics, original: Statistics | None) -> dict[str, Value]:
        return self.rescored(self.outcomes(edited, original) | {GROUP: edited[GROUP]}, original)

    def rescored(self, edited: Statistics, original: Statistics | None) -> dict[str, Value]:
        interval = partial(bootstrap, groups=edited[GROUP], seed=self.seed, draws=self.draws)
        drifts = {name: values for name, values in edited.items() if name != GROUP}
        return {name: Value(float(drift.mean()), *interval(drift), len(drift)) for name, drift in drifts.items()}

    def outcomes(self, edited: Statistics, original: Statistics | None) -> dict[str, Tensor]:
        if original is None:
            return {}
        pairs = zip(edited["pixels"].split(1), original["pixels"].split(1), strict=True)
        pixels = torch.cat([(floats(after) - floats(before)).double().abs().mean(1) for after, before in pairs])
        features = (edited["features"] - original["features"]).double().norm(dim=1)
        return {"pixel_drift": pixels, "feature_drift": features}

    def columns(self) -> tuple[Column, ...]:
        return (Column("retain", "pixel_drift", "Pixel drift", "low", unedited=True),)
