"""Denoisers that share one sampler: the differences between families are behind five small methods."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from stages.backbones.core.base import Backbone
from stages.backbones.core.finite import check_finite
from stages.backbones.core.forward_process import ForwardProcess
from stages.backbones.core.guidance import Roles, rows_of
from stages.backbones.core.solver import Solver, seeded
from stages.control.state import Condition, State
from stages.params.kept import Kept


class Diffusion(Backbone):
    """A backbone driven by a diffusers scheduler; latents are (B, C, h, w) or (B, f, C, h, w)."""

    ROLES = ("uncond", "cond")
    LATENTS: ClassVar[torch.dtype | None] = None  # of latents between steps; None: as of the network
    SOLVER: ClassVar[type[Solver]] = Solver

    scheduler: Any

    # what a family provides

    @abstractmethod
    def denoise(self, latent: Tensor, time: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
        """One call of the network: latents (B, ...) at times (B,), given a condition's tensors, to predictions."""

    @abstractmethod
    def decode(self, latent: Tensor) -> Tensor:
        """Latents (B, ...) to images (B, 3, H, W) or clips (B, F, 3, H, W) in [0, 1]."""

    @abstractmethod
    def embed(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) or clips (B, F, 3, H, W) in [0, 1] to latents (B, ...)."""

    @abstractmethod
    def latent_shape(self) -> tuple[int, ...]:
        """The shape of one latent, without the batch."""

    @abstractmethod
    def _times(self, scheduler: Any, steps: int) -> Tensor:
        """Sets the scheduler to `steps` steps and returns the times (T,) of the network's calls."""

    # the sampler

    @property
    def process(self) -> ForwardProcess:
        """The forward process behind the scheduler."""
        return ForwardProcess(self.scheduler)

    def solver(self, steps: int) -> Solver:
        """A new solver of `steps` steps."""
        scheduler = copy.deepcopy(self.scheduler)
        return self.SOLVER(scheduler, self._times(scheduler, steps))

    def calls(self, steps: int) -> int:
        """Calls of the network in a run of `steps` steps: 2 steps - 1 for a Heun solver, for example."""
        return len(self.solver(steps))

    def noise(self, seeds: Sequence[int], shape: tuple[int, ...] | None = None) -> Tensor:
        """Standard normal latents (B, ...), one CPU generator per image, so that no image depends on its batch."""
        return self._noise(seeded(seeds), shape)

    def begin(self, seeds: Sequence[int]) -> tuple[Tensor, list[torch.Generator]]:
        """Starting noise (B, ...), and its generators, which go on to own the noise of the steps."""
        owners = seeded(seeds)
        return self._noise(owners), owners

    def _noise(self, owners: Sequence[torch.Generator], shape: tuple[int, ...] | None = None) -> Tensor:
        shape = shape or self.latent_shape()
        rows = [torch.randn((1, *shape), generator=owner) for owner in owners]
        return torch.cat(rows).to(self.device, self._latent_dtype)

    @property
    def _latent_dtype(self) -> torch.dtype:
        """The precision of latents between steps."""
        return self.LATENTS or next(self.net.parameters()).dtype

    def predict(self, state: State, condition: Condition, *, role: str = "cond") -> Tensor:
        """The prediction (B, ...) for every row of the state; `role` is the one that activation edits see."""
        with self.attached.at(state.step, {role: slice(0, len(state))}, condition=condition):
            return self.denoise(state.input, state.time, condition.tensors)

    def distance(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Mean squared error (scalar, float32) of two predictions (B, ...)."""
        return torch.nn.functional.mse_loss(prediction.float(), target.float())

    def _guided(self, state: State, roles: Roles, factor: float) -> Tensor:
        """All roles in one call of the network."""
        rows = rows_of(roles, len(state))
        with self.attached.at(state.step, rows, condition=roles.get("cond")):
            latent, time = (torch.cat([value] * len(roles)) for value in (state.input, state.time))
            prediction = self.denoise(latent, time, Condition.join(list(roles.values())).tensors)
            return self.attached.combine({role: prediction[part] for role, part in rows.items()}, factor)

    def _unconditional(self, condition: Condition) -> Condition:
        """The empty prompt."""
        return self.encode([""]).repeat(len(condition))

    def walk(
        self,
        condition: Condition,
        latent: Tensor,
        *,
        steps: int,
        guidance: float,
        generators: Sequence[torch.Generator] | None = None,
        first: int = 0,
    ) -> Iterator[State]:
        """Every state of a denoising run from noise (B, ...) on: one before each call of the network, then the final.

        `generators`, one per row (see `begin`), own the noise that stochastic schedulers add on the way. A run may
        begin at call `first`, from the latent (B, ...) as the scheduler has it there.
        """
        generators = generators or seeded(range(len(latent)))
        solver = self.solver(steps)
        predict = self.guider(condition, guidance)
        if first == 0:
            latent = latent * getattr(solver.scheduler, "init_noise_sigma", 1.0)
        else:
            solver = solver.standing_at(first)
        for call in range(first, len(solver)):
            state = solver.state(latent, call)
            yield state
            latent = solver.advance(predict(state), call, latent, generators)
        yield State(latent, torch.zeros(len(latent), device=self.device), len(solver))

    @torch.no_grad()
    def _sample(self, condition: Condition, *, seeds: Sequence[int], steps: int, guidance: float) -> Tensor:
        start, owners = self.begin(seeds)
        *_, last = self.walk(condition, start, steps=steps, guidance=guidance, generators=owners)
        check_finite(self, "latent", last.latent, condition.prompts, seeds)
        return check_finite(self, "picture", self.decode(last.latent), condition.prompts, seeds)

    # trajectories to train on

    def _encoded_together(self, prompts: Sequence[str]) -> list[str]:
        return [*prompts, ""]

    def _make_pool(self, prompt: str, seeds: Sequence[int], states: Kept) -> Tensor:
        """Latents (n, T + 1, ...) of whole runs of T calls, or of their ends or last states alone."""
        steps, guidance = self.settings.steps, self.settings.guidance
        condition, runs = self.encode([prompt]), []
        for rows in self.settings.batches(len(seeds)):
            start, owners = self.begin(seeds[rows])
            latents: list[Tensor] = []
            for state in self.walk(
                condition.repeat(len(start)), start, steps=steps, guidance=guidance, generators=owners
            ):
                last = state.latent.cpu()
                if states == "all" or (states == "ends" and not latents):
                    latents.append(last)
            runs.append(torch.stack(latents if states == "all" else [*latents, last], dim=1))
        return torch.cat(runs)

    def draw(self, condition: Condition, generator: torch.Generator) -> State:
        """One random state per row, all at the same call; KeyError when a prompt's trajectories are not gathered."""
        solver = self.solver(self.settings.steps)
        call = int(torch.randint(len(solver), (), generator=generator))
        latents, ends = self.trajectories.draw(condition.prompts, generator, [call, -1]).to(self.device).unbind(1)
        if len(solver) != self.settings.steps:
            solver.pass_to(call)
        return solver.state(latents, call, ends)

    def finals(self, condition: Condition, generator: torch.Generator) -> Tensor:
        """The final latents (B, ...) of one random run per row; KeyError when a prompt's are not gathered."""
        return self.trajectories.draw(condition.prompts, generator, [-1], "final").to(self.device)[:, 0]
