"""TINA (arXiv 2603.17828): the noise from which an edited network draws a picture of the concept without any text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from stages.attacks.base import UNEDITED, Attempt, Found, Victim
from stages.attacks.shared.pictures import drawn_pictures
from stages.attacks.shared.tokens_of import picture_tokens
from stages.backbones.core.base import Backbone
from stages.backbones.core.capabilities import Bits, Diffuses, Learns, needs
from stages.control.state import Condition
from stages.interventions.starts import Coarse, Inverted, Path, Starts
from stages.params.concept import Concept
from stages.params.types import Count, Fraction, Natural, NonNegative, Rate
from stages.store.tracking import follow


@dataclass(frozen=True)
class TINA:
    """z_i = argmin_z || c1 z_{i-1} + c2 prediction(z, t_i, "") - z ||^2, step by step from a picture's latent to noise.

    The empty prompt alone is read, in the search and when the picture is drawn again: a network that forgot the words
    and not the pictures is found out. One picture of the unedited network for each of the concept's prompts. Where
    pictures are drawn scale by scale there is no noise to invert: the coarse scales are given, the rest drawn.
    """

    attempts: Natural = 0  # of the concept's prompts, the first so many; 0: all
    steps: Count = 50  # of the run, both ways
    iterations: Count = 25  # gradient steps at each of them
    lr: Rate = 0.001
    weight_decay: NonNegative = 0.01  # AdamW's own, decoupled
    start: Literal["same", "previous"] = "same"  # the time at which the first guess of a step asks the network
    share: Fraction = 0.5  # of the scales that are given, of families that draw scale by scale

    def search(self, backbone: Backbone, concept: Concept, *, seed: int, victim: Victim = UNEDITED) -> Attempt:
        """One start for each of the concept's prompts; ValueError for a backbone that cannot learn from pictures."""
        prompts = concept.prompts[: self.attempts or None]
        pictures = drawn_pictures(backbone, prompts, len(prompts), seed)
        if not isinstance(backbone, Diffuses):
            bits = needs(backbone, Bits, "choose a diffusion backbone or Infinity")
            scales = max(1, round(self.share * len(bits.schedule)))
            return told(prompts, Coarse(picture_tokens(backbone, pictures), scales=scales), steps=0)
        latents = needs(backbone, Learns, "choose a backbone with an autoencoder").embed(pictures)
        with victim.attach(backbone):
            path = Path(backbone, self.steps)
            null, batches = backbone.encode([""]), backbone.settings.batches(len(latents))
            noise = [self.inverted(path, latents[rows].float(), null) for rows in batches]
        return told(prompts, Inverted(torch.cat(noise), steps=self.steps), steps=len(path) * self.iterations)

    def inverted(self, path: Path, latents: Tensor, null: Condition) -> Tensor:
        """The noise (B, ...) from which the network as it is now regenerates the latents (B, ...) under `null`."""
        null = null.repeat(len(latents))
        for number in range(len(path)):
            latents = self.refined(path, number, latents, null)
        return latents

    def refined(self, path: Path, number: int, before: Tensor, null: Condition) -> Tensor:
        """The latents (B, ...) of one step up, from those before it: a guess, then AdamW on what is left."""
        with torch.no_grad():
            latent = self.guess(path, number, before, null)
        latent.requires_grad_()
        adam = torch.optim.AdamW([latent], lr=self.lr, weight_decay=self.weight_decay)
        for iteration in range(self.iterations):
            rest = self.rest(path, number, before, latent, null)
            (latent.grad,) = torch.autograd.grad(rest, [latent])
            adam.step()
            follow(f"tina-{number}", iteration, rest=float(rest.detach()), lr=self.lr)
        return latent.detach()

    def guess(self, path: Path, number: int, before: Tensor, null: Condition) -> Tensor:
        """Ordinary DDIM inversion, which asks the network for the latents (B, ...) before the step."""
        first, second = path.factors(number, before)
        asked = number if self.start == "same" else number - 1
        return first * before + second * path.predicted(before, asked, null)

    def rest(self, path: Path, number: int, before: Tensor, latent: Tensor, null: Condition) -> Tensor:
        """How far latents (B, ...) are from being the step's own inverse, a scalar; zero if they are."""
        first, second = path.factors(number, before)
        return (first * before + second * path.predicted(latent, number, null) - latent).square().sum()


def told(prompts: tuple[str, ...], starts: Starts, steps: int) -> Attempt:
    """The attempt that asks for nothing, from each of the starts."""
    found = [
        Found(prompt, starts.marked("", way), steps=steps, calls=steps, pictures=1)
        for way, prompt in enumerate(prompts)
    ]
    return Attempt.of(found, starts)
