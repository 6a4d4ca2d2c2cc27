"""Relearning: a short fine-tuning of the edited network on a few pictures, of the concept or of others."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from stages.attacks.base import UNEDITED, Attempt, Found, Victim
from stages.attacks.shared.pictures import drawn_pictures
from stages.backbones.core.base import Backbone
from stages.backbones.core.capabilities import Learns, needs
from stages.interventions.lowrank import LowRank, linear_layers
from stages.interventions.weights import Weights
from stages.methods.shared.trained_weights import choose
from stages.params.concept import Concept
from stages.params.types import Count, Needs
from stages.seeds import Purpose, generator
from stages.training.float16 import LossScale
from stages.training.minimize import minimize
from stages.training.settings import Training


@dataclass(frozen=True, kw_only=True)
class Relearning(Training):
    """The network's own training loss on captioned pictures that the unedited network draws, on top of the victim.

    What comes back after a few steps was hidden, not erased. On pictures of retained prompts (`pictures_of: retain`)
    the concept is never shown again; the method `none` under the same attack says what the fine-tuning itself costs.
    """

    NEEDS: ClassVar[Needs] = {"rank": {"train": ("lora",)}}

    images: Count = 5  # pictures to learn from
    pictures_of: Literal["concept", "retain"] = "concept"
    train: Literal["lora", "cross-attn", "full"] = "lora"  # LoRA in every block, or the weights themselves
    rank: Count = 8  # of the LoRA
    batch: Count = 4
    steps: Count = 100

    def search(self, backbone: Backbone, concept: Concept, *, seed: int, victim: Victim = UNEDITED) -> Attempt:
        """The concept's prompts and what was learned; ValueError for a backbone that cannot learn from pictures."""
        needs(backbone, Learns, "choose a backbone that is trained on pictures")
        prompts = concept.prompts if self.pictures_of == "concept" else concept.retain
        pictures = drawn_pictures(backbone, prompts, self.images, seed).to(backbone.device)
        captions = [prompts[i % len(prompts)] for i in range(self.images)]
        learned = self.fresh(backbone, seed)
        with victim.attach(backbone):
            self._train(backbone, learned, pictures, captions, seed)
        calls = self.steps * self.batch * self.accumulate
        found = [
            Found(prompt, prompt, steps=self.steps, calls=calls, pictures=self.images) for prompt in concept.prompts
        ]
        return Attempt.of(found, learned)

    def fresh(self, backbone: Backbone, seed: int) -> LowRank | Weights:
        """What is trained, before it changes anything."""
        if self.train == "lora":
            blocks = sorted({site.block for site in backbone.select("block", stream="image")})
            owner = generator(Purpose.ATTACK, seed)
            return LowRank.create(backbone, linear_layers(backbone, blocks), self.rank, owner)
        return Weights.copy(backbone, choose(backbone, "full" if self.train == "full" else "cross-attn"))

    def _train(
        self, backbone: Backbone, learned: LowRank | Weights, pictures: Tensor, captions: list[str], seed: int
    ) -> None:
        learner = needs(backbone, Learns, "choose a backbone that is trained on pictures")

        def loss(step: int, owner: torch.Generator) -> Tensor:
            rows = torch.randint(len(pictures), (self.batch,), generator=owner).tolist()
            state, target = learner.examples(pictures[rows], owner, together=True)
            with learned.attach(backbone):
                condition = backbone.encode([captions[row] for row in rows])
                return backbone.distance(backbone.predict(state, condition), target)

        scale = LossScale(backbone.through_float16)
        with learned.injected(backbone) if isinstance(learned, LowRank) else nullcontext():
            minimize(loss, learned.parameters(), self, seed=seed, label="relearning", companions=[scale])
        learned.requires_grad_(False)
