"""FlowEdit (arXiv 2412.08629): a sample moved along the difference of two velocities, without inversion."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from stages.backbones.core.capabilities import Diffuses, Learns, Walks, needs
from stages.control.edits import edit_samples
from stages.control.mentions import reworded
from stages.control.state import Sampler, State
from stages.interventions.base import Intervention
from stages.seeds import Purpose, hashed

if TYPE_CHECKING:
    from stages.backbones.core.base import Backbone, Condition
    from stages.backbones.core.guidance import Guider

Pair = Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]  # noised source, noised edit, step -> their velocities
ADVICE = "FlowEdit follows a flow's velocities from a picture; choose another method"
Single = Callable[[Tensor, int], Tensor]  # latent, step -> the target prompt's velocity


@dataclass(frozen=True)
class Course:
    """Which of a sampler's steps edit: from the `first`-last on, averaged over `average` draws of noise; the last
    `plain` steps are ordinary sampling of the target prompt."""

    first: int
    average: int = 1
    plain: int = 0


def flow_edit(
    source: Tensor, pair: Pair, single: Single, sigmas: Tensor, noise: Callable[[], Tensor], course: Course
) -> Tensor:
    """The edited latent; `sigmas` (T + 1,) fall from the noisiest to 0. arXiv 2412.08629, Algorithm 1.

    z_src = (1 - s) x + s n, z_tar = z + z_src - x, z += (s' - s) mean_n (v_tar(z_tar) - v_src(z_src)), z = x at first.
    The same noise serves both within a draw; every draw is fresh.
    """
    steps, edit, latent = len(sigmas) - 1, source, None
    for step in range(steps):
        left, sigma, change = steps - step, sigmas[step], sigmas[step + 1] - sigmas[step]
        if left > course.first:
            continue
        if left > course.plain:
            drift = torch.zeros_like(source)
            for _ in range(course.average):
                noised = (1 - sigma) * source + sigma * noise()
                before, after = pair(noised, edit + noised - source, step)
                drift = drift + (after - before) / course.average
            edit = edit + change * drift
        else:
            if latent is None:
                latent = edit + (1 - sigma) * source + sigma * noise() - source
            latent = latent + change * single(latent, step)
    return edit if latent is None else latent


class Resample(Intervention):
    """Edits every sample whose prompt names the concept towards the prompt without it; all others stay as they are.

    `words` maps words to what takes their place; see `stages.control.mentions.reworded`.
    """

    def __init__(
        self, words: Mapping[str, str], course: Course, source_guidance: float, target_guidance: float
    ) -> None:
        super().__init__()
        self.words, self.course = dict(words), course
        self.source_guidance, self.target_guidance = source_guidance, target_guidance

    def attach(self, backbone: Backbone) -> AbstractContextManager[None]:
        """Wraps the sampler."""
        return edit_samples(backbone, lambda sampler: self._wrapped(backbone, sampler))

    def _wrapped(self, backbone: Backbone, sampler: Sampler) -> Sampler:
        @torch.no_grad()
        def sample(condition: Condition, *, seeds: Sequence[int], steps: int, guidance: float) -> Tensor:
            pictures = sampler(condition, seeds=seeds, steps=steps, guidance=guidance)
            wanted = [self.reworded(prompt) for prompt in condition.prompts]
            rows = [i for i, (a, b) in enumerate(zip(condition.prompts, wanted, strict=True)) if a != b]
            if not rows:
                return pictures
            target = backbone.encode([wanted[i] for i in rows])
            latent, owners = needs(backbone, Learns, ADVICE).embed(pictures[rows]), [seeds[i] for i in rows]
            moved = self.edited(backbone, latent, condition.rows(rows), target, owners, steps)
            edited = needs(backbone, Diffuses, ADVICE).decode(moved)
            return pictures.index_copy(0, torch.tensor(rows, device=pictures.device), edited.to(pictures))

        return sample

    def reworded(self, prompt: str) -> str:
        """The prompt to which the picture of another is edited: itself if it does not name the concept."""
        return reworded(prompt, self.words)

    def edited(
        self,
        backbone: Backbone,
        latent: Tensor,
        source: Condition,
        target: Condition,
        seeds: Sequence[int],
        steps: int,
    ) -> Tensor:
        """Final latents of the source condition, moved to the target condition; one generator per row.

        What is moved stays in float32, as in the steps of diffusers' solvers, whatever the network works in.
        """
        solver = needs(backbone, Walks, ADVICE).solver(steps)
        owners = [editing_noise(int(seed)) for seed in seeds]
        from_source = backbone.guider(source, self.source_guidance)
        to_target = backbone.guider(target, self.target_guidance)

        def velocity(predict: Guider, z: Tensor, step: int) -> Tensor:
            state = State(z.to(latent.dtype), solver.times[step].to(z.device).expand(len(z)), step)
            return predict(state).float()

        def pair(noised: Tensor, edit: Tensor, step: int) -> tuple[Tensor, Tensor]:
            return velocity(from_source, noised, step), velocity(to_target, edit, step)

        def single(z: Tensor, step: int) -> Tensor:
            return velocity(to_target, z, step)

        def noise() -> Tensor:
            return torch.cat([torch.randn((1, *latent.shape[1:]), generator=g) for g in owners]).to(latent.device)

        sigmas = solver.scheduler.sigmas.to(latent.device, torch.float32)
        return flow_edit(latent.float(), pair, single, sigmas, noise, self.course).to(latent.dtype)

    def spec(self) -> dict[str, Any]:
        """Words, course and guidance."""
        guidance = {"source_guidance": self.source_guidance, "target_guidance": self.target_guidance}
        return {"words": self.words, "course": asdict(self.course), **guidance}

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], spec: Mapping[str, Any]) -> Resample:
        """From its spec."""
        return cls(spec["words"], Course(**spec["course"]), spec["source_guidance"], spec["target_guidance"])


def editing_noise(seed: int) -> torch.Generator:
    """The generator of a picture's editing noise, of a purpose of its own: no picture starts from it."""
    return torch.Generator().manual_seed(hashed(Purpose.EDIT, seed))
