"""What gradient attacks aim at: pictures of the concept as states of the backbone, and the predictions right there."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stages.backbones.core.base import Backbone
from stages.backbones.core.capabilities import Diffuses, Learns, Walks, needs
from stages.control.state import State


@dataclass(frozen=True)
class Aim:
    """Pictures (n, 3, H, W) or clips, of which one at a time is noised; `latents` (n, ...) where that is possible."""

    backbone: Backbone
    pictures: Tensor
    latents: Tensor | None

    @classmethod
    def at(cls, backbone: Backbone, pictures: Tensor) -> Aim:
        """ValueError for a backbone that cannot learn from pictures."""
        learner = needs(backbone, Learns, "choose an attack that only asks")
        with torch.no_grad():
            latents = learner.embed(pictures) if isinstance(backbone, Diffuses) else None
        return cls(backbone, pictures, latents)

    def times(self, samples: int) -> list[int | None]:
        """Evenly spaced training times, the middles of `samples` parts of the range; Nones for families without."""
        if self.latents is None:
            return [None] * samples
        every = self._range() // samples
        return [every // 2 + every * i for i in range(samples)]

    def random_time(self, generator: torch.Generator) -> int | None:
        """One training time, all equally likely; None for families without."""
        if self.latents is None:
            return None
        return int(torch.randint(self._range(), (), generator=generator))

    def state(self, number: int, time: int | None, generator: torch.Generator) -> tuple[State, Tensor]:
        """Picture `number` at that time, and what the network should predict there, both (1, ...)."""
        if self.latents is None or time is None:
            learner = needs(self.backbone, Learns, "choose an attack that only asks")
            return learner.examples(self.pictures[number : number + 1], generator)
        clean = self.latents[number : number + 1]
        noise = torch.randn(clean.shape, generator=generator).to(clean)
        return self.noised(clean, noise, time)

    def noised(self, clean: Tensor, noise: Tensor, time: int) -> tuple[State, Tensor]:
        """The state (1, ...) with that noise, told the sampler's call that is nearest, and the right prediction."""
        process = needs(self.backbone, Diffuses, "choose an attack that only asks").process
        at = torch.full((len(clean),), time, device=clean.device)
        latent = process.noised(clean, noise, at)
        return State(latent, at, self._call(time)), process.target(clean, noise, at)

    def _range(self) -> int:
        scheduler = needs(self.backbone, Diffuses, "choose an attack that only asks").process.scheduler
        return int(scheduler.config.num_train_timesteps)

    def _call(self, time: int) -> int:
        sampler = needs(self.backbone, Walks, "choose an attack that only asks")
        return sampler.solver(self.backbone.settings.steps).nearest(torch.tensor(time))
