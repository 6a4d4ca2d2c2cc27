"""The solver that a denoiser has: a diffusers scheduler, set to a number of steps."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from stages.control.state import State


class Solver:
    """The times of the network's calls in one run, the state at each call, and the step after it.

    Schedulers count their steps, so a solver serves one run in order; `standing_at` gives one for a single step.
    """

    def __init__(self, scheduler: Any, times: Tensor) -> None:
        self.scheduler, self.times = scheduler, times  # times: (T,) of T calls

    def __len__(self) -> int:
        return len(self.times)

    def state(self, latent: Tensor, call: int, final: Tensor | None = None) -> State:
        """The state of latents (B, ...) at a call."""
        time = self.times[call]
        return State(latent, time.to(latent.device).expand(len(latent)), call, input_scale(self.scheduler, time), final)

    def advance(
        self, prediction: Tensor, call: int, latent: Tensor, generators: Sequence[torch.Generator] | None = None
    ) -> Tensor:
        """The latent (B, ...) after the prediction (B, ...) of a call; `generators`, one per row, own its noise."""
        takes = inspect.signature(self.scheduler.step).parameters
        owner = {"generator": list(generators)} if generators and "generator" in takes else {}
        return self.scheduler.step(prediction, self.times[call], latent, return_dict=False, **owner)[0]

    def nearest(self, time: Tensor) -> int:
        """The call whose time is nearest to a training time (a scalar)."""
        return int((self.times.float() - time.to(self.times.device).float()).abs().argmin())

    def pass_to(self, call: int) -> None:
        """Brings a new solver to a call, for schedulers whose input scale depends on the calls before."""
        nothing, owners = torch.zeros(1, 1), seeded([0])
        for before in range(call):
            self.advance(nothing, before, self.state(nothing, before).latent, owners)

    def standing_at(self, call: int) -> Solver:
        """A copy that is at a call, for schedulers without a history."""
        scheduler = copy.copy(self.scheduler)
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(call)
        return type(self)(scheduler, self.times)


def seeded(seeds: Iterable[int]) -> list[torch.Generator]:
    """One CPU generator per seed."""
    return [torch.Generator().manual_seed(int(seed)) for seed in seeds]


def input_scale(scheduler: Any, time: Tensor) -> float:
    """The factor of the network's input at `time` (1 for most schedulers, 1/sqrt(sigma^2+1) for Euler)."""
    if not hasattr(scheduler, "scale_model_input"):
        return 1.0
    return float(scheduler.scale_model_input(torch.ones((), dtype=torch.float64), time))
