"""The three steps of a metric, what it reads and what it answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from stages.pictures import read_metadata, read_pictures

Statistics = dict[str, Tensor]


@dataclass(frozen=True)
class Samples:
    """Pictures (N, 3, H, W) or clips (N, F, 3, H, W) in [0, 1] of one prompt set, and what was asked for.

    `rows` are their lines of metadata.jsonl (prompt, seed, labels); `target` are the labels of the concept.
    """

    images: Tensor
    rows: Sequence[Mapping[str, Any]]
    target: Mapping[str, str]

    def __post_init__(self) -> None:
        if len(self.images) != len(self.rows) or not len(self.rows):
            raise ValueError(f"expected samples and a row for each, got {len(self.images)}, {len(self.rows)}")

    @property
    def prompts(self) -> list[str]:
        return [str(row["prompt"]) for row in self.rows]


@dataclass(frozen=True)
class Value:
    """A measured number, its 95 % interval where it has one, and how many samples it is from."""

    value: float
    ci_low: float | None
    ci_high: float | None
    n: int


class Metric(ABC):
    """Features of samples, statistics of features, values of statistics."""

    @abstractmethod
    def features(self, samples: Samples) -> Tensor:
        """Returns what is costly to compute and worth sharing, one row per sample."""

    @abstractmethod
    def statistics(self, features: Tensor, samples: Samples) -> Statistics:
        """Returns what the values are made of."""

    @abstractmethod
    def score(self, edited: Statistics, original: Statistics | None) -> dict[str, Value]:
        """Returns the values by name; those that compare are left out where there is no original."""

    def outcomes(self, edited: Statistics, original: Statistics | None) -> dict[str, Tensor]:
        """Returns what was found on each sample, (N,) by name; a rate's name is without `_rate`."""
        return {}

    def evidence(self, features: Tensor) -> Any:
        """Returns what should be stored raw, as primitives, so that other rules can be applied to it later."""
        return None


def measure(
    metric: Metric, name: str, edited: Mapping[str, Samples], original: Mapping[str, Samples] | None
) -> dict[str, Any]:
    """Returns the content of a metric's JSON file: a row per value and prompt set, and each sample's outcomes."""
    rows, outcomes, evidence = [], {}, {}
    for prompts, samples in edited.items():
        features = metric.features(samples)
        found = metric.statistics(features, samples)
        twin = None
        if original is not None:
            check_twins(samples, original[prompts], prompts)
            twin = metric.statistics(metric.features(original[prompts]), original[prompts])
        rows += [{"prompts": prompts, "metric": key, **asdict(v)} for key, v in metric.score(found, twin).items()]
        outcomes[prompts] = {key: _listed(values) for key, values in metric.outcomes(found, twin).items()}
        evidence[prompts] = metric.evidence(features)
    content = {"metric": name, "rows": rows, "samples": outcomes}
    return content if all(part is None for part in evidence.values()) else content | {"evidence": evidence}


def check_twins(edited: Samples, original: Samples, prompts: str) -> None:
    """Raises a ValueError when two sets of samples are not of the same prompts and seeds in the same order."""
    own, twins = ([(row["prompt"], row["seed"]) for row in part.rows] for part in (edited, original))
    if own != twins:
        shorter = min(len(own), len(twins))
        first = next((i for i in range(shorter) if own[i] != twins[i]), shorter)
        raise ValueError(f"{prompts}: sample {first} is not of the same prompt and seed as the unedited backbone's")


def read_samples(folder: str | Path, target: Mapping[str, str]) -> Samples:
    """Returns the samples of one folder that stages.sample wrote."""
    folder = Path(folder)
    return Samples(read_pictures(folder), tuple(read_metadata(folder)), target)


def _listed(values: Tensor) -> list[float | None]:
    """Returns plain numbers; what was not asked for (NaN) is None."""
    return [None if value != value else round(value, 6) for value in values.tolist()]
