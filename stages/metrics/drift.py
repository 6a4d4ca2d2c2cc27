"""How far samples moved from those of the unedited backbone on the same prompts and seeds."""

from dataclasses import dataclass

from torch import Tensor

from stages.fields import Count
from stages.metrics.base import Metric, Samples, Statistics, Value
from stages.metrics.intervals import DRAWS, bootstrap
from stages.metrics.judged import JUDGE, frames, load_judge
from stages.metrics.rates import GROUP, number_prompts


@dataclass(frozen=True)
class Drift(Metric):
    """The mean absolute difference of pixels in [0, 1], and the Euclidean one of standardised judge features."""

    judge: str = JUDGE
    draws: Count = DRAWS
    seed: int = 0

    def features(self, samples: Samples) -> Tensor:
        """Returns judge features, the mean over frames of those of a clip, (N, D)."""
        features = load_judge(self.judge).features(frames(samples.images))
        return features.unflatten(0, (len(samples.images), -1)).mean(1)

    def statistics(self, features: Tensor, samples: Samples) -> Statistics:
        return {"features": features, "pixels": samples.images.flatten(1), GROUP: number_prompts(samples.prompts)}

    def score(self, edited: Statistics, original: Statistics | None) -> dict[str, Value]:
        settings = {"groups": edited[GROUP], "seed": self.seed, "draws": self.draws}
        return {
            name: Value(float(drift.mean()), *bootstrap(drift, **settings), len(drift))
            for name, drift in self.outcomes(edited, original).items()
        }

    def outcomes(self, edited: Statistics, original: Statistics | None) -> dict[str, Tensor]:
        if original is None:
            return {}
        pixels = (edited["pixels"] - original["pixels"]).double().abs().mean(1)
        features = (edited["features"] - original["features"]).double().norm(dim=1)
        return {"pixel_drift": pixels, "feature_drift": features}
