"""Backpropagation through a whole denoising run with the memory of one step.

The run is made without a graph and only its latents are kept; the backward pass takes each step again, last first,
and asks it once for the gradients of its latent and of the parameters. Exact for solvers without a history.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from stages.backbones.core.base import Backbone
from stages.backbones.core.capabilities import Walks, needs
from stages.control.state import Condition

Step = Callable[[int, Tensor], Tensor]  # (index, latent) -> the latent after it
# attributes in which solvers keep earlier calls, or the first of a step's two
HISTORY = ("ets", "model_outputs", "derivatives", "prev_derivative", "sample")


class Replay:
    """A sampler's run as steps that can be taken again one at a time; honours whatever is attached.

    `seeds`, one per row, are those of the starting noise: the noise of a stochastic solver's steps follows from them,
    as it does in `Backbone.sample`. ValueError for a backbone without a denoising run, and for a solver whose steps
    depend on earlier ones.
    """

    def __init__(
        self, backbone: Backbone, condition: Condition, *, seeds: Sequence[int], steps: int, guidance: float
    ) -> None:
        self.backbone = needs(backbone, Walks, "no gradient passes through its sampler")
        self.solver, self.predict = self.backbone.solver(steps), backbone.guider(condition, guidance)
        if keeps_history(self.solver.scheduler):
            name = type(self.solver.scheduler).__name__
            raise ValueError(
                f"{name} keeps a history of steps: set the backbone's scheduler to one of single steps (DDIMScheduler, "
                f"EulerDiscreteScheduler ...), or choose through: state"
            )
        _, self.owners = self.backbone.begin(seeds)
        self.reached = [self._states()]  # of the generators before each step

    def __len__(self) -> int:
        return len(self.solver)

    def __call__(self, index: int, latent: Tensor) -> Tensor:
        """The latent (B, ...) after step `index` from `latent` (B, ...).

        Steps are taken in order at first, else ValueError; taken again, a stochastic solver draws the same noise.
        """
        if index >= len(self.reached):
            raise ValueError(f"step {index} has to follow step {index - 1}: its noise comes after that one's")
        for owner, reached in zip(self.owners, self.reached[index], strict=True):
            owner.set_state(reached)
        solver = self.solver.standing_at(index)
        after = solver.advance(self.predict(solver.state(latent, index)), index, latent, self.owners)
        if len(self.reached) == index + 1:
            self.reached.append(self._states())
        return after

    def _states(self) -> list[Tensor]:
        return [owner.get_state() for owner in self.owners]


def keeps_history(scheduler: object) -> bool:
    """Whether a solver's step depends on more than the latent, so that it cannot be taken again by itself."""
    return any(hasattr(scheduler, name) for name in HISTORY)


def unroll(
    step: Step, steps: int, start: Tensor, parameters: Iterable[nn.Parameter], again: Step | None = None
) -> Tensor:
    """The latent (B, ...) after all steps from `start` (B, ...).

    Its gradients reach `start` and `parameters`, equal to those of the whole graph. `again` takes the steps in the
    backward pass if it should differ from `step`.
    """
    return _Unroll.apply(step, again or step, steps, start, *parameters)


class _Unroll(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, step: Step, again: Step, steps: int, start: Tensor, *parameters: Tensor) -> Tensor:
        latents = [start]
        for index in range(steps):
            latents.append(step(index, latents[-1]))
        ctx.again, ctx.parameters = again, parameters
        ctx.save_for_backward(*latents[:-1])
        return latents[-1]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        sums: list[Tensor | None] = [None] * len(ctx.parameters)
        for index, saved in reversed(list(enumerate(ctx.saved_tensors))):
            latent = saved.detach().requires_grad_()
            with torch.enable_grad():
                after = ctx.again(index, latent)
            gradient, *own = torch.autograd.grad(after, (latent, *ctx.parameters), gradient, allow_unused=True)
            sums = [b if a is None else a if b is None else a + b for a, b in zip(sums, own, strict=True)]
        return None, None, None, gradient, *sums
