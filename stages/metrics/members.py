"""Several concepts that are erased as one: whether a sample shows the one that its prompt names, and how often each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from stages.metrics.samples import Samples
from stages.params.concept import values
from stages.params.datasets import Target


class Sees(Protocol):
    """An answer that says of each frame whether it shows labels; of a label's values in a list, any counts."""

    def shows(self, target: Target) -> Tensor: ...


def shown(answer: Sees, samples: Samples) -> Tensor:
    """Whether each frame shows the concept, (N, F) bool: of several, the one that its prompt names, or any of them."""
    seen, named = answer.shows(samples.target), [_named(row, samples.target) for row in samples.rows]
    for own in filter(None, {tuple(one.items()): one for one in named}.values()):
        asked = torch.tensor([one == own for one in named])
        seen = torch.where(asked[:, None], answer.shows({**samples.target, **own}), seen)
    return seen


def members_of(samples: Samples) -> dict[str, tuple[str, str]]:
    """Each of several concepts that a prompt of the set asks for: the name of its outcome, its label and value.

    Empty for a concept that is one.
    """
    several = {value.replace(" ", "_"): (label, value) for label, value in _several(samples.target)}
    return {name: one for name, one in several.items() if _asked(samples, *one).any()}


def each_member(verdicts: Tensor, samples: Samples, members: Mapping[str, tuple[str, str]]) -> list[Tensor]:
    """The verdicts (N,) on the prompts of each of `members`, NaN elsewhere."""
    return [torch.where(_asked(samples, *one), verdicts, torch.nan) for one in members.values()]


def _several(target: Target) -> list[tuple[str, str]]:
    lists = {label: wanted for label, wanted in target.items() if not isinstance(wanted, str)}
    return [(label, value) for label, wanted in lists.items() for value in values(wanted)]


def _named(row: Mapping[str, str], target: Target) -> dict[str, str]:
    """Of each label with several values the one that a prompt names, if it names one of them."""
    return {label: value for label, value in _several(target) if row.get(label) == value}


def _asked(samples: Samples, label: str, value: str) -> Tensor:
    return torch.tensor([row.get(label) == value for row in samples.rows])
