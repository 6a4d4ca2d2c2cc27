"""The inputs of a network: encoded prompts, and a partial sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Condition:
    """Encoded prompts: `tensors` maps a name (embeds, pooled, mask ...) to (B, ...)."""

    prompts: tuple[str, ...]
    tensors: Mapping[str, Tensor]

    def __len__(self) -> int:
        return len(self.prompts)

    def rows(self, index: Sequence[int] | slice) -> Condition:
        """The rows at `index`."""
        picked = self.prompts[index] if isinstance(index, slice) else tuple(self.prompts[i] for i in index)
        index = index if isinstance(index, slice) else list(index)
        return Condition(picked, {name: value[index] for name, value in self.tensors.items()})

    def repeat(self, n: int) -> Condition:
        """A condition of one row as n equal rows."""
        return self.rows([0] * n)

    def with_tensors(self, **tensors: Tensor) -> Condition:
        """The same prompts with some tensors replaced."""
        return replace(self, tensors={**self.tensors, **tensors})

    @staticmethod
    def join(conditions: Sequence[Condition]) -> Condition:
        """All rows one after another."""
        prompts = tuple(prompt for condition in conditions for prompt in condition.prompts)
        names = conditions[0].tensors
        return Condition(prompts, {name: torch.cat([c.tensors[name] for c in conditions]) for name in names})


@dataclass(frozen=True)
class State:
    """A partial sample: `latent` (B, ...) at the network's `time` (B,) and the sampler's `step`."""

    latent: Tensor
    time: Tensor
    step: int
    scale: float = 1.0  # of the network's input, for schedulers that normalise it
    final: Tensor | None = None  # the end of the trajectory, (B, ...), if known

    @property
    def input(self) -> Tensor:
        """The network's input (B, ...): the latent times the scale."""
        return self.latent if self.scale == 1.0 else self.latent * self.scale

    def end(self) -> Tensor:
        """The end of the trajectory, (B, ...); ValueError if it is not known."""
        if self.final is None:
            raise ValueError(f"the end of this trajectory is not known at step {self.step}")
        return self.final

    def __len__(self) -> int:
        return len(self.latent)


Sampler = Callable[..., Tensor]  # (condition, *, seeds, steps, guidance) -> images
