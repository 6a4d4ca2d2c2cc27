"""Erased Stable Diffusion (arXiv 2303.07345): the network learns to be guided away from the concept by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from stages.backbones.core.base import Backbone
from stages.control.state import Condition, State
from stages.interventions.weights import Weights
from stages.methods.shared.base import Prompts, States, frozen, reached
from stages.methods.shared.data import FromPrompts
from stages.methods.shared.preservation import Preservation
from stages.methods.shared.trained_weights import Train, choose
from stages.methods.shared.wording import own_words
from stages.objectives import away, negative_guidance
from stages.params.concept import Concept
from stages.params.kept import Reads
from stages.params.types import Count, Natural, Needs, NonNegative, Rate, Refuses
from stages.training.float16 import LossScale
from stages.training.minimize import minimize
from stages.training.settings import Adam, Training


@dataclass(frozen=True, kw_only=True)
class ESD(FromPrompts, Training):
    """prediction(concept) -> uncond - scale (cond - uncond), arXiv 2303.07345 eq. 7.

    Trains copies of some weights; the right-hand side is the frozen network's.
    """

    READS: ClassVar[Reads] = {"states": {"frozen": "all"}, "preserve": "all"}
    NEEDS: ClassVar[Needs] = {
        "guidance": {"states": ("student", "fresh")},
        "erase_from": {"origin": ("source",)},
        "empty": {"preserve": True},
        "data": {"bare": False},
        "templates": {"bare": False},
        "limit": {"bare": False},
    }
    REFUSES: ClassVar[Refuses] = {
        "erase_from is not None and origin == 'uncond'": (
            "erase_from needs origin: source; choose it, or leave erase_from out"
        )
    }

    train: Train = "x"  # which weights; see stages.methods.shared.trained_weights
    blocks: tuple[int, ...] = ()  # only those of these blocks; empty: of all
    scale: NonNegative = 1.0  # how far from the concept
    states: States = "student"  # partial samples: of the network in training (the paper), or see States
    guidance: NonNegative = 3.0  # at which new ones are sampled
    bare: bool = False  # the concept's words alone, one prompt each, in place of its prompts, as in the released code
    origin: Literal["uncond", "source"] = "uncond"  # where the target starts; the code: `source`
    erase_from: str | None = None  # the prompt in which alone the concept is erased; null: the concept's own prompts
    preserve: NonNegative = 0.0  # weight of the distance to the frozen network on retain prompts; the paper has none
    empty: Natural = 0  # how many of these the empty prompt counts as, from which guidance starts
    batch: Count = 1
    steps: Count = 1000
    lr: Rate = 1e-5
    optimizer: Adam = "adam"

    def fit(self, backbone: Backbone, concept: Concept, *, seed: int) -> Weights:
        """The trained weights; ValueError for fields that contradict each other or that the backbone cannot serve."""
        concept = self.learned(concept)
        erased = own_words(concept) if self.bare else concept.prompts
        sources = erased if self.erase_from is None else (self.erase_from,)
        prompts, begin = Prompts.of(backbone, erased), Prompts.of(backbone, sources)
        empty = backbone.encode([""]).repeat(self.batch)
        weights = Weights.copy(backbone, choose(backbone, self.train, self.blocks))
        if self.states == "frozen":
            backbone.gather(sources, seed)
        preservation = Preservation.of(backbone, concept, self.preserve, self.empty, seed)

        def loss(step: int, generator: torch.Generator) -> Tensor:
            shown = prompts.draw(self.batch, generator)
            source = shown if self.erase_from is None else begin.draw(self.batch, generator)
            state = reached(backbone, weights, source, generator, self.states, self.guidance)
            value = self.erasure(backbone, weights, state, shown, empty, source)
            return value + preservation(weights, self.batch, generator)

        scale = LossScale(backbone.through_float16)
        minimize(loss, weights.parameters(), self, seed=seed, label="esd", companions=[scale])
        return weights

    def erasure(
        self,
        backbone: Backbone,
        weights: Weights,
        state: State,
        erased: Condition,
        empty: Condition,
        source: Condition,
    ) -> Tensor:
        """The distance, a scalar, of the student's prediction for `source` to the frozen one pushed off the concept."""
        uncond, cond = frozen(backbone, state, empty), frozen(backbone, state, erased)
        if self.origin == "source":
            target = away(frozen(backbone, state, source), uncond, cond, self.scale)
        else:
            target = negative_guidance(uncond, cond, self.scale)
        with weights.attach(backbone):
            student = backbone.predict(state, source)
        return backbone.distance(student, target)
