"""Guidance: what a number of it comes to on a network, and the prediction under it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from stages.control.state import Condition, State

TOLD = "told"  # the tensor (B,) of a condition with the guidance that a distilled network is told

Roles = Mapping[str, Condition]


@dataclass(frozen=True)
class Guidance:
    """What a guidance that somebody asks for comes to on one network."""

    factor: float = 1.0  # of uncond + factor (cond - uncond); at 1 the conditional prediction alone
    told: float | None = None  # to a network that was distilled to take guidance as an input


@dataclass(frozen=True)
class Guider:
    """The prediction under a guidance, in whichever way the family is guided; made by `Backbone.guider`.

    The one way in for samplers, attacks and methods: none of them combines predictions itself.

        predict = backbone.guider(condition, guidance=3.0)
        prediction = predict(state)  # (B, ...), a row for each of the condition's
    """

    roles: Roles  # the conditions of one guided call, in the family's order of rows
    guidance: Guidance
    call: Callable[[State, Roles, float], Tensor]

    def __call__(self, state: State) -> Tensor:
        """The prediction (B, ...) at a state of as many rows as the condition."""
        return self.call(state, self.roles, self.guidance.factor)


def rows_of(roles: Iterable[str], size: int) -> dict[str, slice]:
    """The rows of each role in a batch of `size` rows a role."""
    return {role: slice(i * size, (i + 1) * size) for i, role in enumerate(roles)}


def telling(roles: Roles, told: float) -> dict[str, Condition]:
    """The conditions, every row of which tells the network that guidance."""
    return {role: rows.with_tensors(**{TOLD: _filled(rows, told)}) for role, rows in roles.items()}


def _filled(condition: Condition, value: float) -> Tensor:
    device = next(iter(condition.tensors.values())).device
    return torch.full((len(condition),), value, device=device)
