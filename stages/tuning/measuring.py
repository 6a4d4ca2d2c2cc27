"""What a trial does: fit on each concept, sample, judge; one backbone, loaded once, and nothing written."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from stages.interventions.base import Intervention
from stages.metrics.base import Metric
from stages.metrics.samples import Samples
from stages.params import build
from stages.params.concept import Concept
from stages.store.samples import Row, draw
from stages.tuning.objective import ERASED, RETAINED, Shares, score
from stages.tuning.space import Plain
from stages.tuning.trials import Outcome

if TYPE_CHECKING:
    from stages.backbones import Backbone

RIGHT = "joint"  # the outcome that says that a picture has all that its prompt asks for
NEUTRAL = "neutral"  # the set of the prompts' twins without the concept


@dataclass(frozen=True)
class Case:
    """A concept to tune on and the rows that measure it: of `concept`, `synonym`, `neutral`, `seen`, `near`, `far`."""

    concept: Concept
    sets: Mapping[str, Sequence[Row]]
    chance: float | None = None  # how often it is seen though nothing asks for it, where that is declared


@dataclass(frozen=True)
class Bench:
    """What all trials of a search share: the backbone, the judge, the cases, and what the unedited model comes to."""

    backbone: Backbone
    metric: Metric
    cases: Sequence[Case]
    unedited: Sequence[Shares]  # of each case
    floors: Sequence[Shares]  # of each case, how often a model that never saw the concept shows it
    margin: float  # of what the unedited model gets right, lost without a penalty
    seed: int = 0  # of every fit

    @classmethod
    def of(
        cls,
        backbone: Backbone,
        metric: Metric,
        cases: Sequence[Case],
        oracle: Backbone | None = None,
        **settings: Any,
    ) -> Bench:
        """The bench with the unedited backbone measured, and an oracle, if there is one: else chance, as cases say it,
        or the neutral twins of those that do not."""
        unedited = [shares(backbone, metric, case) for case in cases]
        if oracle is not None:
            floors = [shares(oracle, metric, case, ERASED) for case in cases]
        else:
            floors = [by_chance(backbone, metric, case) for case in cases]
        return cls(backbone, metric, cases, unedited, floors, **settings)

    def run(self, base: Mapping[str, Any], settings: Mapping[str, Plain], where: str) -> Outcome:
        """One trial: a method of these fields fitted for each concept, and the objective it reaches in the mean.

        FloatingPointError if a training or a picture is not finite.
        """
        scores: dict[str, dict[str, Any]] = {}
        method = build(dict(base) | dict(settings), where)
        for i, case in enumerate(self.cases):
            started = time.perf_counter()
            intervention = method.fit(self.backbone, case.concept, seed=self.seed)
            fitted = time.perf_counter()
            edited = shares(self.backbone, self.metric, case, intervention=intervention)
            seconds = {"fit_seconds": fitted - started, "measure_seconds": time.perf_counter() - fitted}
            found = score(edited, self.unedited[i], self.floors[i], self.margin)
            measured = {"edited": edited, "unedited": self.unedited[i], "floor": self.floors[i]}
            scores[case.concept.name] = (
                found.listed() | measured | {key: round(value, 2) for key, value in seconds.items()}
            )
        return Outcome(fmean(one["objective"] for one in scores.values()), scores)


def shares(
    backbone: Backbone,
    metric: Metric,
    case: Case,
    sets: Sequence[str] = (*ERASED, *RETAINED),
    intervention: Intervention | None = None,
) -> dict[str, float]:
    """The shares of a case's sets, each in [0, 1]: of pictures that show the concept, or that are right as asked."""
    found = {}
    with intervention.attach(backbone) if intervention is not None else nullcontext():
        for name in sets:
            if rows := case.sets.get(name):
                found[name] = share(backbone, metric, case.concept, rows, metric.seen if name in ERASED else RIGHT)
    return found


def by_chance(backbone: Backbone, metric: Metric, case: Case) -> dict[str, float]:
    """How often the concept is seen by chance, for each erased set: as declared, or on the neutral twins.

    ValueError for a concept with neither.
    """
    if case.chance is not None:
        return dict.fromkeys(ERASED, case.chance)
    if not case.sets.get(NEUTRAL):
        raise ValueError(
            f"{case.concept.name}: its chance level needs an oracle, a declared chance or neutral prompts; it has none"
        )
    chance = share(backbone, metric, case.concept, case.sets[NEUTRAL], metric.seen)
    return dict.fromkeys(ERASED, chance)


def share(backbone: Backbone, metric: Metric, concept: Concept, rows: Sequence[Row], outcome: str | None) -> float:
    """The share of ones of an outcome among the pictures of some rows, of those that were asked for it.

    ValueError if the metric has no such outcome.
    """
    samples = Samples(pictures(backbone, rows), list(rows), concept.target)
    outcomes = metric.outcomes(metric.statistics(metric.features(samples), samples), None)
    if outcome is None or outcome not in outcomes:
        raise ValueError(
            f"{type(metric).__name__} does not say whether a picture of {concept.name} is {outcome or 'showing it'}; "
            f"it has {', '.join(outcomes)}"
        )
    return float(outcomes[outcome].double().nanmean())


def pictures(backbone: Backbone, rows: Sequence[Row]) -> Tensor:
    """The rows' pictures as bytes, as files would hold them, (N, 3, H, W) or (N, F, 3, H, W)."""
    size = backbone.settings.batch
    parts = [draw(backbone, list(rows[start : start + size])) for start in range(0, len(rows), size)]
    return (255 * torch.cat(parts).clamp(0, 1)).round().byte().cpu()
