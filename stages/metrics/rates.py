"""How often a judge sees the concept, sees what was asked for, or sees nothing clear."""

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from stages.metrics.base import Metric, Samples, Statistics, Value
from stages.metrics.intervals import DRAWS, effective_samples, paired_bootstrap, wilson
from stages.metrics.judged import JUDGE, LABELS, load_judge
from stages.params.types import Count

GROUP = "prompt"  # the statistic that numbers each sample's prompt


class Names(Protocol):
    """What has been seen on samples, a name for each."""

    def named(self, label: str) -> Sequence[str]: ...


def rate(outcomes: Tensor, groups: Tensor) -> Value:
    """Returns the share of ones with its Wilson interval; `groups` (N,) numbers the prompts. NaN does not count."""
    known = ~outcomes.isnan()
    values = outcomes[known]
    successes, n = int(values.sum()), len(values)
    return Value(successes / n, *wilson(successes, n, effective=effective_samples(values, groups[known])), n)


def change(edited: Tensor, original: Tensor, groups: Tensor, *, seed: int, draws: int = DRAWS) -> Value:
    """Returns mean(edited) - mean(original) with the interval of a paired bootstrap over prompts."""
    gap = edited.double() - original.double()
    interval = paired_bootstrap(edited, original, seed=seed, groups=groups, draws=draws)
    return Value(float(gap.nanmean()), *interval, int((~gap.isnan()).sum()))


def number_prompts(prompts: Sequence[str]) -> Tensor:
    """Returns the number of each sample's prompt, from 0 in order of appearance, (N,)."""
    numbers = {prompt: i for i, prompt in enumerate(dict.fromkeys(prompts))}
    return torch.tensor([numbers[prompt] for prompt in prompts])


@dataclass(frozen=True)
class Outcomes(Metric):
    """Rates of ones among each sample's outcomes, and their change against the unedited samples of the same seeds."""

    draws: Count = DRAWS
    seed: int = 0

    @property
    def seen(self) -> str:
        return "target"

    @abstractmethod
    def names(self, samples: Samples) -> tuple[str, ...]:
        """Returns what the columns of `features` are: 1, 0, or NaN where it was not asked for."""

    def statistics(self, features: Tensor, samples: Samples) -> Statistics:
        columns = zip(self.names(samples), features.unbind(1), strict=True)
        return dict(columns) | {GROUP: number_prompts(samples.prompts)}

    def score(self, edited: Statistics, original: Statistics | None) -> dict[str, Value]:
        found = self.outcomes(edited, original)
        values = {f"{name}_rate": rate(outcomes, edited[GROUP]) for name, outcomes in found.items()}
        if original is not None:
            for name, outcomes in found.items():
                settings = {"seed": self.seed, "draws": self.draws}
                values[f"{name}_rate_change"] = change(outcomes, original[name], edited[GROUP], **settings)
        return values

    def outcomes(self, edited: Statistics, original: Statistics | None) -> dict[str, Tensor]:
        return {name: values for name, values in edited.items() if name != GROUP}


@dataclass(frozen=True)
class Rates(Outcomes):
    """Rates by the judge of the world of shapes.

    target: the concept is seen; broken: no clear shape; coherent: neither; colour, shape, direction: as asked for.
    Where every prompt asks for the concept, `other` is all else that was asked for; elsewhere `joint` is all of it.
    """

    WORLD: ClassVar[str] = "shapes"
    LABELS: ClassVar[tuple[str, ...]] = LABELS

    judge: str = JUDGE

    def names(self, samples: Samples) -> tuple[str, ...]:
        return ("target", "broken", "coherent", *asked_for(samples))

    def features(self, samples: Samples) -> Tensor:
        """Returns the outcomes target, broken, coherent and those of `asked_for`, (N, K)."""
        asked = tuple(asked_for(samples).values())
        return torch.cat([self._judged(part, asked) for part in samples.parts()])

    def _judged(self, samples: Samples, asked: Sequence[Sequence[str]]) -> Tensor:
        verdict = load_judge(self.judge).look(samples.images)
        right = [as_asked(verdict, samples, labels) for labels in asked]
        shown, broken = verdict.shows(samples.target), verdict.broken()
        return torch.stack([shown.float(), broken.float(), (~shown & ~broken).float(), *right], 1)


def asked_for(samples: Samples, known: Iterable[str] = LABELS) -> dict[str, tuple[str, ...]]:
    """Returns the labels that must be right for each outcome, of those that are `known`."""
    labels = tuple(label for label in known if any(row.get(label) for row in samples.rows))
    if all(row.get(label) == value for row in samples.rows for label, value in samples.target.items()):
        rest = tuple(label for label in labels if label not in samples.target)
        return {label: (label,) for label in rest} | ({"other": rest} if rest else {})
    return {label: (label,) for label in labels} | ({"joint": labels} if labels else {})


def as_asked(verdict: Names, samples: Samples, labels: Sequence[str]) -> Tensor:
    """Returns whether all of these labels that a row asks for are right, (N,); NaN where it asks for none."""
    seen = {label: verdict.named(label) for label in labels}
    right = torch.full((len(samples.rows),), torch.nan)
    for i, row in enumerate(samples.rows):
        asked = [label for label in labels if row.get(label)]
        if asked:
            right[i] = float(all(seen[label][i] == row[label] for label in asked))
    return right
