"""Latent start: sampling begins at noised pictures of the concept, not at noise (the memory of noise)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from stages.attacks.base import UNEDITED, Attempt, Found, Victim
from stages.attacks.shared.pictures import drawn_pictures
from stages.attacks.shared.tokens_of import picture_tokens
from stages.backbones.core.base import Backbone
from stages.backbones.core.capabilities import Bits, Diffuses, Learns, needs
from stages.interventions.starts import Coarse, Noised, Starts
from stages.params.concept import Concept
from stages.params.types import Fraction, Natural


@dataclass(frozen=True)
class LatentStart:
    """The concept's prompts, sampled from a picture that the unedited network draws of each, noised to `strength`.

    Nothing is optimised. At strength 1 it is ordinary sampling, at 0.3 most of the picture is given. Where pictures are
    drawn scale by scale, the coarse scales are given: 1 - strength of them.
    """

    attempts: Natural = 0  # of the concept's prompts, the first so many; 0: all
    strength: Fraction = 0.7  # the share of the run that is left to the network

    def search(self, backbone: Backbone, concept: Concept, *, seed: int, victim: Victim = UNEDITED) -> Attempt:
        """The prompts, each with its start; ValueError for a backbone that cannot learn from pictures."""
        prompts = concept.prompts[: self.attempts or None]
        pictures = drawn_pictures(backbone, prompts, len(prompts), seed)
        starts: Starts
        if isinstance(backbone, Diffuses):
            with torch.no_grad():
                latents = needs(backbone, Learns, "choose a backbone with an autoencoder").embed(pictures)
            starts = Noised(latents, strength=self.strength)
        else:
            bits = needs(backbone, Bits, "choose a diffusion backbone or Infinity")
            scales = round((1 - self.strength) * len(bits.schedule))
            starts = Coarse(picture_tokens(backbone, pictures), scales=scales)
        found = (Found(prompt, starts.marked(prompt, way), pictures=1) for way, prompt in enumerate(prompts))
        return Attempt.of(found, starts)
