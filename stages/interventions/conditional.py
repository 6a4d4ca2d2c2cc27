"""Interventions that act only as far as a gate lets them, and how far it is open while a network runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor

from stages.interventions.base import Intervention, Stack


class Conditional(Intervention):
    """An intervention with a gate, which says of each row how far it acts: 0 not at all, 1 as far as it can."""

    _openings: list[Tensor] | None = None

    @property
    def gated(self) -> bool:
        """Whether these settings have a gate at all."""
        return True

    @property
    def keywords(self) -> tuple[str, ...]:
        """The words that open the gate by themselves; none if it does not read words."""
        return ()

    @contextmanager
    def watched(self) -> Iterator[list[Tensor]]:
        """Collects how far the gate is open, (B,) in 0..1, whenever it is asked while open; gradients pass if they can.

        A gate of words is asked when prompts are encoded, the others when the network is called.
        """
        before, self._openings = self._openings, []
        try:
            yield self._openings
        finally:
            self._openings = before

    @property
    def asked(self) -> bool:
        """Whether anybody watches the gate."""
        return self._openings is not None

    def _tell(self, opening: Tensor) -> None:
        """Adds an opening (B,) to what `watched` collects."""
        if self._openings is not None:
            self._openings.append(opening)


def gates_of(intervention: Intervention) -> list[Conditional]:
    """The interventions with a gate in one, itself or parts of a stack."""
    if isinstance(intervention, Stack):
        return [gate for part in intervention.parts if isinstance(part, Intervention) for gate in gates_of(part)]
    return [intervention] if isinstance(intervention, Conditional) and intervention.gated else []


@contextmanager
def all_watched(gates: list[Conditional]) -> Iterator[list[list[Tensor]]]:
    """What `watched` collects of each gate, in their order."""
    with ExitStack() as stack:
        yield [stack.enter_context(gate.watched()) for gate in gates]


def opened(told: list[list[Tensor]]) -> Tensor:
    """How far gates are open, a scalar in 0..1: the mean over gates of what each told; 0 for one that was not asked."""
    means = [torch.stack([one.float().mean() for one in values]).mean() for values in told if values]
    return torch.stack(means).sum() / len(told) if means else torch.zeros(())
