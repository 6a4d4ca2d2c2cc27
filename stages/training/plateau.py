"""A learning rate that falls, and a training that ends, once its losses stop falling."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

FACTOR = 0.5  # of the learning rate, at a plateau
SHARE = 1e-4  # of the best loss that a better one lies below it, for the learning rate
LEAST = 1e-5  # by which a better loss lies below the best, for the end


@dataclass
class Plateau:
    """A companion of a training that counts its losses in epochs of so many steps.

    The learning rate halves after more than half of `patience` epochs without a better mean loss, and the training ends
    after `patience` of them, as torch's ReduceLROnPlateau and an early stop do.
    """

    epoch: int  # steps
    patience: int  # epochs
    factor: float = 1.0  # on the learning rate now
    over: bool = False  # whether the training is at its end
    losses: list[float] = field(default_factory=list)  # of the epoch that is running
    best: float = math.inf  # mean loss of an epoch
    waited: int = 0  # epochs without a better one
    best_for_rate: float = math.inf  # the same two, for the learning rate
    waited_for_rate: int = 0

    def follow(self, loss: float) -> None:
        """Takes in the loss of a step."""
        self.losses.append(loss)
        if len(self.losses) < self.epoch:
            return
        mean, self.losses = sum(self.losses) / self.epoch, []
        self._slow_down(mean)
        self._end(mean)

    def _slow_down(self, mean: float) -> None:
        falls = mean < self.best_for_rate * (1 - SHARE)
        self.best_for_rate = mean if falls else self.best_for_rate
        self.waited_for_rate = 0 if falls else self.waited_for_rate + 1
        if self.waited_for_rate > self.patience // 2:
            self.factor, self.waited_for_rate = self.factor * FACTOR, 0

    def _end(self, mean: float) -> None:
        falls = mean < self.best - LEAST
        self.best = mean if falls else self.best
        self.waited = 0 if falls else self.waited + 1
        self.over = self.waited >= self.patience

    def state_dict(self) -> dict[str, Any]:
        """All numbers."""
        return asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up what `state_dict` returned."""
        for name, value in state.items():
            setattr(self, name, value)
