"""The three steps of a metric, and the values it answers with."""

from __future__ import annotations

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor

from stages.metrics.intervals import DRAWS, paired_bootstrap
from stages.metrics.proportions import difference, rate_interval
from stages.metrics.samples import Samples, finite

Statistics = dict[str, Tensor]
Asked = tuple[str, int]  # prompt and seed
Better = Literal["low", "high", ""]  # which way a number improves

log = logging.getLogger(__name__)

GROUP = "prompt"  # the statistic that numbers each sample's prompt, (N,): images of one prompt may be alike


@dataclass(frozen=True)
class Value:
    """A measured number."""

    value: float
    ci_low: float | None  # of the 95 % interval; None without one
    ci_high: float | None
    n: int  # samples that it is from


def rate(outcomes: Tensor, groups: Tensor) -> Value:
    """The share of ones among outcomes (N,) with the interval of `stages.metrics.proportions`; NaN does not count.

    `groups` (N,) numbers the prompts. ValueError if every outcome is NaN.
    """
    known = ~outcomes.isnan()
    values = outcomes[known]
    interval = rate_interval(values, groups[known])
    return Value(int(values.sum()) / len(values), *interval, len(values))


def rate_change(edited: Tensor, original: Tensor, groups: Tensor) -> Value:
    """The difference of two rates on the same prompts and noise, both outcomes (N,), with its paired score interval."""
    found = difference(edited, original, groups)
    return Value(found.value, found.low, found.high, int((~(edited.isnan() | original.isnan())).sum()))


def change(edited: Tensor, original: Tensor, groups: Tensor, *, seed: int, draws: int = DRAWS) -> Value:
    """mean(edited) - mean(original), both (N,), with the interval of a paired bootstrap over prompts `groups` (N,)."""
    difference = edited.double() - original.double()
    interval = paired_bootstrap(edited, original, seed=seed, groups=groups, draws=draws)
    return Value(float(difference.nanmean()), *interval, int((~difference.isnan()).sum()))


@dataclass(frozen=True)
class Column:
    """A column of the report's tables."""

    prompts: str  # the prompt set
    metric: str  # a name that `score` answers with
    label: str  # the head of the column
    better: Better  # the way in which the number improves; empty if neither
    aim: str = ""  # of the concepts that it is shown for, "erase" or "learn"; empty for all
    unedited: bool = False  # whether it is a distance to the unedited model, which is smallest if nothing was done


class Metric(ABC):
    """Features of samples, statistics of features, values of statistics.

        @dataclass(frozen=True)
        class Brightness(Metric):
            def features(self, samples):
                return torch.stack([part.mean() for part in floats(samples.images)])[:, None]

            def statistics(self, features, samples):
                return {"brightness": features[:, 0]}

            def score(self, edited, original):
                values = edited["brightness"]
                return {"brightness": Value(float(values.mean()), None, None, len(values))}

    A file of params/metrics/ that names the class is all that a study needs to measure it and to show it in its tables.
    The constants say what it can judge: a study that asks for more is refused before anything runs.
    """

    WORLDS: ClassVar[tuple[str, ...] | None] = None  # the only worlds whose pictures it can judge
    LABELS: ClassVar[Mapping[str, tuple[str, ...]] | None] = None  # the only labels of a target, by world
    CHOICES: ClassVar[str | None] = None  # the field that lists the values of a label that it can tell apart
    NEEDED: ClassVar[Mapping[str, str]] = {}  # fields (`a or b`) that a study must fill, and what belongs there

    SIZES: ClassVar[bool] = False  # whether it measures a set of pictures of several sizes

    unasked = False  # whether NaN among the features stands for what a sample was not asked for

    @property
    def seen(self) -> str | None:
        """The outcome that says whether a sample shows the concept; None if the metric has no such outcome."""
        return None

    @abstractmethod
    def features(self, samples: Samples) -> Tensor:
        """The costly part, which can be shared: a row per sample, (N, ...)."""

    @abstractmethod
    def statistics(self, features: Tensor, samples: Samples) -> Statistics:
        """Tensors by name, from which values are computed without the pictures."""

    @abstractmethod
    def score(self, edited: Statistics, original: Statistics | None) -> dict[str, Value]:
        """Values by name; comparisons are left out if there is no original."""

    def outcomes(self, edited: Statistics, original: Statistics | None) -> dict[str, Tensor]:
        """The verdict or number of each sample, (N,) by name: NaN if it was not asked for.

        A value that is the mean of an outcome has its name; a rate has its name with `_rate`.
        """
        return {}

    def rescored(self, edited: Statistics, original: Statistics | None) -> dict[str, Value]:
        """The values that stored outcomes (N,) give, with `GROUP` among them; {} for those that need features.

        `stages.verify` derives a table from them.
        """
        return {}

    def evidence(self, features: Tensor) -> Any:
        """Raw answers to store, as primitives, so that other rules can be applied to them later; None for nothing."""
        return None

    def caveat(self, features: Tensor) -> str | None:
        """A sentence that readers of the values must know, such as too few samples; None without one."""
        return None

    def columns(self) -> tuple[Column, ...] | None:
        """The columns of the report's tables; None for a column of every value."""
        return None


def measure(
    metric: Metric, name: str, edited: Mapping[str, Samples], original: Mapping[str, Samples] | None
) -> dict[str, Any]:
    """The content of a metric's JSON file: a row per value and prompt set, and each sample's outcomes."""
    return measure_all({name: metric}, edited, original)[name]


def measure_all(
    metrics: Mapping[str, Metric], edited: Mapping[str, Samples], original: Mapping[str, Samples] | None
) -> dict[str, dict[str, Any]]:
    """Each metric's content by name.

    Every set is asked for once, one after the other; only a metric's statistics outlive it. Samples of one prompt and
    seed are one picture and count once, but each has its outcomes and its evidence. ValueError if two sets are
    not twins, FloatingPointError naming metric, prompt set and file for a number that is not finite.
    """
    contents: dict[str, dict[str, Any]] = {name: {"metric": name, "rows": [], "samples": {}} for name in metrics}
    for prompts in edited:
        described = _described(metrics, edited[prompts], prompts)
        twins = None
        if original is not None:
            twins = _described(metrics, original[prompts], f"{prompts}, unedited")
            check_twins(described.asked, twins.asked, prompts)
        for name, metric in metrics.items():
            pair = described.statistics[name], twins.statistics[name] if twins else None
            content, values = contents[name], metric.score(*pair)
            _check_values(values, f"{name}: {prompts}")
            content["rows"] += [{"prompts": prompts, "metric": key, **asdict(value)} for key, value in values.items()]
            outcomes = metric.outcomes(*pair).items()
            content["samples"][prompts] = {key: _listed(values[described.pictures]) for key, values in outcomes}
            if described.evidence[name] is not None:
                content.setdefault("evidence", {})[prompts] = described.evidence[name]
            if described.caveats[name]:
                content.setdefault("caveat", described.caveats[name])
    return {name: content | _declared(metrics[name]) for name, content in contents.items()}


def check_twins(edited: Sequence[Asked], original: Sequence[Asked], prompts: str) -> None:
    """Raises a ValueError when two sets of samples are not of the same prompts and seeds in the same order."""
    if edited != original:
        shorter = min(len(edited), len(original))
        first = next((i for i in range(shorter) if edited[i] != original[i]), shorter)
        raise ValueError(f"{prompts}: sample {first} is not of the same prompt and seed as the unedited backbone's")


@dataclass(frozen=True)
class _Described:
    """One set of samples without its pictures."""

    asked: list[Asked]
    pictures: list[int]  # the number of each sample's picture among the different ones
    statistics: dict[str, Statistics]  # by metric
    evidence: dict[str, Any]  # by metric, None for nothing
    caveats: dict[str, str | None]  # by metric


def _described(metrics: Mapping[str, Metric], samples: Samples, place: str) -> _Described:
    asked, pictures = [(row["prompt"], row["seed"]) for row in samples.rows], samples.pictures
    samples = samples.different()
    if len(samples.rows) < len(asked):
        log.warning("%s: %d samples are %d different pictures", place, len(asked), len(samples.rows))
    features = {name: _features(metric, samples, f"{name}: {place}") for name, metric in metrics.items()}
    return _Described(
        asked,
        pictures,
        {name: metric.statistics(features[name], samples) for name, metric in metrics.items()},
        {name: metric.evidence(features[name][pictures]) for name, metric in metrics.items()},
        {name: metric.caveat(features[name]) for name, metric in metrics.items()},
    )


def _features(metric: Metric, samples: Samples, place: str) -> Tensor:
    try:
        if samples.sizes and not metric.SIZES:
            raise ValueError(f"{place}: it measures pictures of one size; in the study: ignore: [size]")
        features = metric.features(samples)
        return features if metric.unasked else finite(features, samples)
    except FloatingPointError as error:
        raise FloatingPointError(f"{place}: {error}") from None


def _check_values(values: Mapping[str, Value], place: str) -> None:
    for name, value in values.items():
        if not math.isfinite(value.value):
            raise FloatingPointError(f"{place}: {name} is not finite, got {value.value}")


def _declared(metric: Metric) -> dict[str, Any]:
    """What the report has to know of a metric beside its numbers."""
    columns = metric.columns()
    declared = {"seen": metric.seen} if metric.seen else {}
    return declared | ({} if columns is None else {"columns": [asdict(column) for column in columns]})


def _listed(values: Tensor) -> list[float | None]:
    """Plain numbers; NaN, for what was not asked for, becomes None."""
    return [None if value != value else round(value, 6) for value in values.tolist()]
