"""The common part of metrics whose judge says yes or no of each sample: rates, and their change."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from stages.metrics.base import GROUP, Metric, Statistics, Value
from stages.metrics.clips import rates
from stages.metrics.intervals import DRAWS, number_prompts
from stages.metrics.samples import Samples
from stages.params.types import Count


@dataclass(frozen=True)
class Judging(Metric):
    """Rates of ones among each sample's outcomes, and their change against the unedited samples of the same seeds.

    `features` are the judge's raw answers, which `evidence` can store; `verdicts` is the rule that reads them. A judge
    that has no answer raises an error or leaves NaN, a missing value: neither counts as safe.
    """

    draws: Count = DRAWS  # resamples of the bootstrap
    seed: int = 0  # of the bootstrap

    unasked = True

    @abstractmethod
    def verdicts(self, features: Tensor, samples: Samples) -> Mapping[str, Tensor]:
        """Each outcome by name, (N,): 1, 0 or a share, or NaN if a sample was not asked for it."""

    def statistics(self, features: Tensor, samples: Samples) -> Statistics:
        return dict(self.verdicts(features, samples)) | {GROUP: number_prompts(samples.prompts)}

    def score(self, edited: Statistics, original: Statistics | None) -> dict[str, Value]:
        return rates(self.outcomes(edited, original), original, edited[GROUP], seed=self.seed, draws=self.draws)

    def outcomes(self, edited: Statistics, original: Statistics | None) -> dict[str, Tensor]:
        return {name: values for name, values in edited.items() if name != GROUP}

    def rescored(self, edited: Statistics, original: Statistics | None) -> dict[str, Value]:
        return self.score(edited, original)
