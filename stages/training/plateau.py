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
    best: tuple[float, float] = (math.inf, math.inf)  # mean losses, for the learning rate and for the end
    waited: tuple[int, int] = (0, 0)  # epochs without a better one, likewise

    def follow(self, loss: float) -> None:
        """Takes in the loss of a step."""
        self.losses.append(loss)
        if len(self.losses) < self.epoch:
            return
        mean, self.losses = sum(self.losses) / self.epoch, []
        bars = (self.best[0] * (1 - SHARE), self.best[1] - LEAST)
        falls = [mean < bar for bar in bars]
        self.best = tuple(mean if falls[i] else self.best[i] for i in (0, 1))
        rate, end = (0 if falls[i] else self.waited[i] + 1 for i in (0, 1))
        if rate > self.patience // 2:
            self.factor, rate = self.factor * FACTOR, 0
        self.waited, self.over = (rate, end), end >= self.patience

    def state_dict(self) -> dict[str, Any]:
        """All numbers."""
        return asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up what `state_dict` returned."""
        for name, value in state.items():
            setattr(self, name, value)
