"""Runs that begin where they are told: at an inverted noise, at a noised picture, or at a picture's coarse scales."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from stages.backbones.core.capabilities import Bits, Diffuses, Walks, needs
from stages.backbones.core.forward_process import levels, prediction
from stages.control.state import Condition, Sampler, State
from stages.interventions.marked import Marked

if TYPE_CHECKING:
    from stages.backbones.core.base import Backbone

OTHERWISE = "choose a diffusion backbone"


class Starts(Marked):
    """One way to start for each of n states (n, ...), which prompts name: `<start 0>` and so on."""

    MARK = "start"

    def __init__(self, states: Tensor, **numbers: Any) -> None:
        super().__init__()
        self.states: Tensor = states.detach()
        self.numbers = numbers

    def count(self) -> int:
        """The number of states."""
        return len(self.states)

    @abstractmethod
    def begun(self, backbone: Backbone, state: Tensor, condition: Condition, **run: Any) -> Tensor:
        """Pictures (B, 3, H, W) or clips of a run from the state (1, ...)."""

    def drawn(self, backbone: Backbone, sampler: Sampler, condition: Condition, way: int, **run: Any) -> Tensor:
        """Pictures (B, 3, H, W) or clips of a run from that state."""
        with torch.no_grad():
            return self.begun(backbone, self.states[way : way + 1].to(backbone.device), condition, **run)

    def tensors(self) -> dict[str, Tensor]:
        """The states."""
        return {"states": self.states}

    def spec(self) -> dict[str, Any]:
        """The numbers that say what the states are."""
        return dict(self.numbers)

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], spec: Mapping[str, Any]) -> Self:
        """From states and numbers."""
        return cls(tensors["states"], **spec)


class Inverted(Starts):
    """Latents z_T (n, ...) from which plain DDIM (Euler for flows) of `steps` steps regenerates a picture."""

    def begun(self, backbone: Backbone, state: Tensor, condition: Condition, **run: Any) -> Tensor:
        """The regenerated pictures, whatever noise, steps and guidance are asked for."""
        process = needs(backbone, Diffuses, OTHERWISE)
        path = Path(backbone, self.numbers["steps"])
        *_, latent = path.down(state.expand(len(condition), *state.shape[1:]), condition)
        return process.decode(latent.to(next(backbone.net.parameters()).dtype))


class Noised(Starts):
    """Clean latents (n, ...), noised to the share `strength` of the sampler's own run, which goes on from there."""

    def begun(self, backbone: Backbone, state: Tensor, condition: Condition, **run: Any) -> Tensor:
        """Pictures of the rest of the run, from the noise of each seed."""
        sampler, seeds = needs(backbone, Walks, OTHERWISE), run.pop("seeds")
        process = needs(backbone, Diffuses, OTHERWISE)
        solver = sampler.solver(run["steps"])
        first = round((1 - self.numbers["strength"]) * len(solver))
        first = min(len(solver) - 1, first - first % max(1, len(solver) // run["steps"]))
        noise, owners = sampler.begin(seeds)
        clean = state.expand_as(noise).to(noise)
        start = noise
        if first:
            there = solver.standing_at(first).state(noise, first)
            start = process.process.noised(clean, noise, there.time) / there.scale
        *_, last = sampler.walk(condition, start, **run, generators=owners, first=first)
        return process.decode(last.latent)


class Coarse(Starts):
    """Tokens (n, L, bits) of pictures, whose first `scales` scales are given and the rest drawn."""

    def begun(self, backbone: Backbone, state: Tensor, condition: Condition, **run: Any) -> Tensor:
        """The completed pictures."""
        completer = needs(backbone, Bits, "choose Infinity")
        tokens = state.expand(len(condition), *state.shape[1:])
        return completer.completed(condition, tokens, self.numbers["scales"], seeds=run["seeds"])


class Path:
    """The noise levels of a deterministic run, z_i = c1 z_{i-1} + c2 prediction(z_i, t_i), both ways.

    DDIM for eps and v (arXiv 2010.02502, eq. 12 without noise), Euler for flows; the sampler's own times.
    """

    def __init__(self, backbone: Backbone, steps: int) -> None:
        sampler = needs(backbone, Walks, OTHERWISE)
        needs(backbone, Diffuses, OTHERWISE)
        self.backbone, self.scheduler = backbone, sampler.scheduler
        self.times = sampler.solver(steps).times.unique()  # ascending

    def __len__(self) -> int:
        return len(self.times)

    def factors(self, number: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """c1 and c2 of step `number`, counted from the clean latent, for latents (B, ...) like these."""
        signal, spread = self._levels(number, like)
        signal_before, spread_before = self._levels(number - 1, like)
        kind = prediction(self.scheduler)
        if kind == "flow_prediction":
            return torch.ones_like(signal), spread - spread_before
        if kind == "epsilon":
            return signal / signal_before, spread - signal * spread_before / signal_before
        along = signal_before * signal + spread_before * spread
        return 1 / along, (signal_before * spread - spread_before * signal) / along

    def predicted(self, latent: Tensor, number: int, condition: Condition) -> Tensor:
        """What the network as it is now predicts (B, ...) for latents at that step; -1: told the time 0."""
        time = self.times[number] if number >= 0 else torch.zeros_like(self.times[0])
        network = next(self.backbone.net.parameters()).dtype
        at = time.to(latent.device).expand(len(latent))
        state = State(latent.to(network), at, len(self) - 1 - max(number, 0))
        return as_sampled(self.backbone, state, condition).to(latent.dtype)

    def down(self, latent: Tensor, condition: Condition) -> Sequence[Tensor]:
        """The latents (B, ...) after every step, from the noisiest to the clean one."""
        reached = []
        for number in reversed(range(len(self))):
            first, second = self.factors(number, latent)
            latent = (latent - second * self.predicted(latent, number, condition)) / first
            reached.append(latent)
        return reached

    def _levels(self, number: int, like: Tensor) -> tuple[Tensor, Tensor]:
        if number >= 0:
            return levels(self.scheduler, self.times[number].to(like.device).expand(1), like)
        if prediction(self.scheduler) == "flow_prediction":
            return levels(self.scheduler, torch.zeros(1, device=like.device), like)
        last = torch.as_tensor(getattr(self.scheduler, "final_alpha_cumprod", 1.0)).to(like)
        return last.sqrt(), (1 - last).sqrt()


def as_sampled(backbone: Backbone, state: State, condition: Condition) -> Tensor:
    """The prediction (of the latent's shape) as a defence leaves it.

    Without edits of guidance the network's own for the condition alone; with them, what the sampler combines at the
    backbone's guidance.
    """
    if not backbone.attached.guidance_edits:
        return backbone.predict(state, condition)
    return backbone.guider(condition, backbone.settings.guidance)(state)
