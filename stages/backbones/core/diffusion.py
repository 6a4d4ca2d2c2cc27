"""Denoisers that share one sampler: what differs between families is behind four small methods."""

from __future__ import annotations

import copy
import inspect
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from stages.backbones.core.base import Backbone, Condition, Settings, State
from stages.backbones.core.finite import check_finite
from stages.control.state import run_seeds


class Diffusion(Backbone):
    """A backbone driven by a diffusers scheduler; latents are (B, C, h, w) or (B, f, C, h, w)."""

    ROLES = ("uncond", "cond")  # order of the rows of a guided batch
    LATENTS: ClassVar[torch.dtype | None] = None  # of latents between steps; None: as of the network

    def __init__(self, name: str, settings: Settings) -> None:
        super().__init__(name, settings)
        self.pool_seeds: dict[str, int] = {}  # prompt -> seed of what was gathered here; 0 for what was read

    # what a family provides

    @abstractmethod
    def denoise(self, latent: Tensor, time: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
        """One call of the network: (B, ...) at times (B,), given a condition's tensors, to its prediction."""

    @abstractmethod
    def decode(self, latent: Tensor) -> Tensor:
        """Latents to images in [0, 1]."""

    @abstractmethod
    def embed(self, images: Tensor) -> Tensor:
        """Images in [0, 1] to latents."""

    @abstractmethod
    def latent_shape(self) -> tuple[int, ...]:
        """The shape of one latent, without the batch."""

    @abstractmethod
    def timesteps(self, scheduler: object, steps: int) -> Tensor:
        """Sets the scheduler to `steps` steps and returns its timesteps."""

    # the sampler

    def noise(self, seeds: Sequence[int], shape: tuple[int, ...] | None = None) -> Tensor:
        """Standard normal latents, one CPU generator per image, so that no image depends on its batch."""
        return self._noise(seeded(seeds), shape)

    def begin(self, seeds: Sequence[int]) -> tuple[Tensor, list[torch.Generator]]:
        """Starting noise, and the generators it came from, which go on to own the noise of the steps."""
        owners = seeded(seeds)
        return self._noise(owners), owners

    def _noise(self, owners: Sequence[torch.Generator], shape: tuple[int, ...] | None = None) -> Tensor:
        shape = shape or self.latent_shape()
        rows = [torch.randn((1, *shape), generator=owner) for owner in owners]
        return torch.cat(rows).to(self.device, self.latent_dtype)

    @property
    def latent_dtype(self) -> torch.dtype:
        """What latents are kept in between steps."""
        return self.LATENTS or next(self.net.parameters()).dtype

    def predict(self, state: State, condition: Condition, *, role: str = "cond") -> Tensor:
        """The prediction for every row of the state; `role` is what activation edits see."""
        with self.at(state.step, {role: slice(0, len(state))}):
            return self.denoise(state.input, state.time, condition.tensors)

    def distance(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Mean squared error."""
        return torch.nn.functional.mse_loss(prediction.float(), target.float())

    def guided(self, state: State, conditions: Mapping[str, Condition], guidance: float) -> Tensor:
        """All roles in one call of the network, through the guidance edits, combined as uncond + g (cond - uncond)."""
        size, order = len(state), list(conditions)
        roles = {role: slice(i * size, (i + 1) * size) for i, role in enumerate(order)}
        with self.at(state.step, roles):
            latent, time = (torch.cat([value] * len(order)) for value in (state.input, state.time))
            prediction = self.denoise(latent, time, Condition.join(list(conditions.values())).tensors)
            return self.combined({role: prediction[rows] for role, rows in roles.items()}, guidance)

    def guide(self, state: State, condition: Condition, guidance: float) -> Tensor:
        """The prediction at so much guidance, in whichever way this family is guided."""
        return self.guided(state, self.roles(condition, guidance), max(guidance, 1.0))

    def roles(self, condition: Condition, guidance: float) -> dict[str, Condition]:
        """The conditions of one guided call in this family's order of rows, extra roles of the edits last.

        At guidance 1 or less, the condition alone, unless an edit asks for more.
        """
        extras = self.extras(condition)
        if guidance <= 1 and not extras:
            return {"cond": condition}
        size = len(condition)
        found = {"cond": condition, "uncond": self.unconditional(size)}
        return {role: found[role] for role in self.ROLES} | extras

    def unconditional(self, size: int) -> Condition:
        """The condition that guidance moves away from."""
        return self.encode([""]).repeat(size)

    def walk(
        self,
        condition: Condition,
        latent: Tensor,
        *,
        steps: int,
        guidance: float,
        generators: Sequence[torch.Generator] | None = None,
    ) -> Iterator[State]:
        """Every state of a denoising run, from noise to the final latent (whose step is `steps`).

        `generators`, one per row (see `begin`), own the noise that stochastic schedulers add on the way.
        """
        generators = generators or seeded(range(len(latent)))
        scheduler = copy.deepcopy(self.scheduler)
        times = self.timesteps(scheduler, steps)
        conditions = self.roles(condition, guidance)
        latent = latent * getattr(scheduler, "init_noise_sigma", 1.0)
        for step, time in enumerate(times):
            state = State(latent, time.to(self.device).expand(len(latent)), step, input_scale(scheduler, time))
            yield state
            prediction = self.guided(state, conditions, max(guidance, 1.0))
            latent = self.advance(scheduler, prediction, time, latent, generators)
        yield State(latent, torch.zeros(len(latent), device=self.device), steps)

    def advance(
        self,
        scheduler: object,
        prediction: Tensor,
        time: Tensor,
        latent: Tensor,
        generators: Sequence[torch.Generator] | None = None,
    ) -> Tensor:
        """One step of the scheduler: the latent after it."""
        takes = inspect.signature(scheduler.step).parameters
        owner = {"generator": list(generators)} if generators and "generator" in takes else {}
        return scheduler.step(prediction, time, latent, return_dict=False, **owner)[0]

    @torch.no_grad()
    def _sample(self, condition: Condition, *, seeds: Sequence[int], steps: int, guidance: float) -> Tensor:
        start, owners = self.begin(seeds)
        *_, last = self.walk(condition, start, steps=steps, guidance=guidance, generators=owners)
        check_finite(self, "latent", last.latent, condition.prompts, seeds)
        return check_finite(self, "picture", self.decode(last.latent), condition.prompts, seeds)

    # trajectories to train on

    @torch.no_grad()
    def gather(self, prompts: Sequence[str], seed: int) -> None:
        """Samples settings.pool trajectories per prompt with the network as it is now; kept ones are not remade."""
        steps, guidance = self.settings.steps, self.settings.guidance
        prompts = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self.pools]
        self.encode([*prompts, ""])
        for prompt in prompts:
            seeds, condition = run_seeds(seed, self.settings.pool), self.encode([prompt])
            runs = []
            for rows in self.batches(len(seeds)):
                start, owners = self.begin(seeds[rows])
                several = condition.repeat(len(start))
                walk = self.walk(several, start, steps=steps, guidance=guidance, generators=owners)
                run = torch.stack([state.latent.cpu() for state in walk], dim=1)
                runs.append(check_finite(self, "trajectory", run, several.prompts, seeds[rows]))
            self.pools[prompt], self.pool_seeds[prompt] = torch.cat(runs), seed

    def draw(self, condition: Condition, generator: torch.Generator) -> State:
        """One random state per row, all at the same step; KeyError when a prompt's trajectories are not gathered."""
        steps = self.settings.steps
        step = int(torch.randint(steps, (), generator=generator))
        latents, ends = self.picked(condition.prompts, generator, [step, -1]).unbind(1)
        scheduler = copy.deepcopy(self.scheduler)
        time = self.timesteps(scheduler, steps)[step]
        times = time.to(self.device).expand(len(latents))
        return State(latents, times, step, input_scale(scheduler, time), ends)


def seeded(seeds: Iterable[int]) -> list[torch.Generator]:
    """One CPU generator per seed."""
    return [torch.Generator().manual_seed(int(seed)) for seed in seeds]


def input_scale(scheduler: object, time: Tensor) -> float:
    """What the scheduler multiplies the network's input by at `time` (1 for most, 1/sqrt(sigma^2+1) for Euler)."""
    if not hasattr(scheduler, "scale_model_input"):
        return 1.0
    return float(scheduler.scale_model_input(torch.ones((), dtype=torch.float64), time))
