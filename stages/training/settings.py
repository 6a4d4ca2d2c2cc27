"""How a loop trains, as one value: its length, its learning rate's course, its optimizer."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from stages.params.types import Count, Fraction, Natural, NonNegative, Rate

Schedule = Literal["constant", "cosine", "linear"]
Adam = Literal["adamw", "adam"]
OPTIMIZERS: dict[Adam, type[torch.optim.Optimizer]] = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}


@dataclass(frozen=True, kw_only=True)
class Training:
    """The settings of `stages.training.minimize.minimize`, and the base of whatever trains by it.

    @dataclass(frozen=True, kw_only=True)
    class Mine(Training):
        steps: Count = 100

        def fit(self, backbone, concept, *, seed): ... minimize(loss, weights.parameters(), self, seed=seed)
    """

    steps: Count  # of the optimizer
    lr: Rate  # the highest learning rate
    schedule: Schedule = "constant"  # of the learning rate after the warm-up; the others fall to 0
    warmup: Natural = 0  # steps in which the learning rate rises linearly
    accumulate: Count = 1  # batches per step, one after another, whose gradients are averaged
    weight_decay: NonNegative = 0.0  # decoupled in adamw, an L2 penalty in adam
    clip: Rate | None = None  # the largest norm of all gradients together; null: any
    optimizer: Adam = "adamw"
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)  # decays of Adam's two moments
    eps: Rate = 1e-8  # Adam's floor under the second moment's root
    ema: Fraction = 0.0  # decay of the averaged values that the result has; 0: the last values

    def rate(self, step: int) -> float:
        """The factor on the learning rate at `step`, counted from 0."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        if self.schedule == "constant":
            return 1.0
        done = min((step - self.warmup) / max(self.steps - self.warmup, 1), 1.0)
        return 0.5 * (1 + math.cos(math.pi * done)) if self.schedule == "cosine" else 1 - done

    def adam(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """The optimizer of these parameters."""
        settings: dict[str, Any] = {
            "lr": self.lr,
            "weight_decay": self.weight_decay,
            "betas": self.betas,
            "eps": self.eps,
        }
        return OPTIMIZERS[self.optimizer](parameters, **settings)


def from_scratch(steps: int, lr: float) -> Training:
    """A short training from random weights: a twentieth of warm-up, a cosine, gradients of norm 1 at most."""
    return Training(steps=steps, lr=lr, schedule="cosine", warmup=steps // 20, clip=1.0)
