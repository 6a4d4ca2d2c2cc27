"""Erasing with Adversarial Preservation (arXiv 2410.15618): preserve what erasing would harm most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor

from stages.backbones.core.base import Backbone
from stages.backbones.core.capabilities import Diffuses, needs
from stages.control.state import Condition, State
from stages.interventions.weights import Weights
from stages.methods.shared.adversary import Adversary
from stages.methods.shared.base import Prompts, States, frozen, reached
from stages.methods.shared.data import FromPrompts
from stages.methods.shared.preservation import Preservation
from stages.methods.shared.trained_weights import Train, choose
from stages.methods.shared.vocabulary import Nearness, nearest, read_words, spread
from stages.objectives import gumbel_softmax, negative_guidance
from stages.params.concept import Concept
from stages.params.kept import Reads
from stages.params.types import Count, Departs, Natural, Needs, NonNegative, Rate
from stages.training.float16 import LossScale
from stages.training.minimize import minimize
from stages.training.processes import agreed
from stages.training.progress import Companion
from stages.training.settings import Adam, Training


@dataclass(frozen=True, kw_only=True)
class EAP(FromPrompts, Training):
    """min_weights max_mixture || prediction(concept) - (uncond - scale (cond - uncond)) ||^2 + weight x harm(mixture),
    the harm being the distance to the frozen network; arXiv 2410.15618.

    A mixture is a Gumbel-softmax over the texts nearest to a concept prompt.
    """

    DEPARTS: ClassVar[Departs] = {
        "states": "states: {states}",
        "space": "space: {space}",
        "preserve > 0": "preserve: {preserve}",
    }
    READS: ClassVar[Reads] = {"states": {"frozen": "all"}, "preserve": "all"}
    NEEDS: ClassVar[Needs] = {
        "guidance": {"states": ("student", "fresh")},
        "nearest": {"weight": True},
        "vocabulary": {"weight": True},
        "temperature": {"weight": True},
        "hard": {"weight": True},
        "search": {"weight": True},
        "search_lr": {"weight": True},
    }

    train: Train = "xattn"  # which weights; see stages.methods.shared.trained_weights
    scale: NonNegative = 1.0  # how far from the concept
    weight: NonNegative = 1.0  # of the harm
    # Errors of predictions (the paper), or of the final latents that they imply (the release): the same error, of an
    # eps-prediction weighed by (1 - alpha_bar) / alpha_bar, most where the latent is noise.
    space: Literal["prediction", "clean"] = "prediction"
    nearest: Count = 100  # texts that are considered for a mixture
    nearness: Nearness = "l2"  # of a text's embedding to the prompt's
    centres: Natural = 0  # texts in it, the centres of a k-means over how near those are; 0: all that are considered
    # A file of texts, one a line, of which those with words or synonyms of the concept are left out; empty: the retain
    # prompts.
    vocabulary: str = ""
    temperature: Rate = 2.0  # of the Gumbel-softmax
    hard: bool = False  # one text in the forward pass, the softmax's gradient
    search: Count = 1  # steps of the mixture's logits per step of the weights
    search_lr: Rate = 1e-3  # of the logits
    states: States = "student"  # partial samples: of the network in training (the paper), or see States
    guidance: NonNegative = 3.0  # at which new ones are sampled
    preserve: NonNegative = 0.0  # weight of the distance to the frozen network on retain prompts; the paper has none
    batch: Count = 1
    steps: Count = 500
    lr: Rate = 1e-5
    optimizer: Adam = "adam"

    def fit(self, backbone: Backbone, concept: Concept, *, seed: int) -> Weights:
        """The trained weights; ValueError for a backbone that reads no text, or predictions that imply no final latent,
        FileNotFoundError without the vocabulary."""
        concept = self.learned(concept)
        words = self.candidates(concept)
        prompts, empty = Prompts.of(backbone, concept.prompts), backbone.encode([""]).repeat(self.batch)
        if "embeds" not in prompts.condition.tensors:
            raise ValueError(f"EAP mixes the embeddings of texts, and {backbone.name} knows classes; choose esd")
        preservation = Preservation.of(backbone, concept, self.preserve, 0, seed)
        mixtures = self._mixtures(backbone, prompts.condition, words, seed)
        weights = Weights.copy(backbone, choose(backbone, self.train))

        def loss(step: int, generator: torch.Generator) -> Tensor:
            (which,) = agreed(prompts.indices(1, generator))  # all processes search for the same prompt
            mixture, condition = mixtures[which], prompts.condition.rows([which] * self.batch)
            self._search(backbone, weights, mixture, generator)
            with torch.no_grad():
                mixed = mixture.draw(generator).repeat(self.batch)
            state = reached(backbone, weights, condition, generator, self.states, self.guidance)
            value = self.erasure(backbone, weights, state, condition, empty)
            state = self._state(backbone, weights, mixture, mixed, generator)
            value = value + self.weight * self.harm(backbone, weights, state, mixed)
            return value + preservation(weights, self.batch, generator)

        companions: list[Companion] = [*mixtures, LossScale(backbone.through_float16)]
        minimize(loss, weights.parameters(), self, seed=seed, label="eap", companions=companions)
        return weights

    def _mixtures(self, backbone: Backbone, concepts: Condition, words: Sequence[str], seed: int) -> list[Mixture]:
        """One for each concept prompt; its texts' trajectories are gathered if frozen states are trained on."""
        texts = [self.texts(backbone, concepts.rows([i]), words) for i in range(len(concepts))]
        if self.states == "frozen":
            backbone.gather([*concepts.prompts, *(word for several in texts for word in several)], seed)
        return [Mixture(backbone.encode(several), self.temperature, self.hard, self.search_lr) for several in texts]

    def _search(self, backbone: Backbone, weights: Weights, mixture: Mixture, generator: torch.Generator) -> None:
        """Steps of the mixture towards more harm."""
        for _ in range(self.search):
            mixed = mixture.draw(generator).repeat(self.batch)
            state = self._state(backbone, weights, mixture, mixed, generator)
            mixture.step(self.harm(backbone, weights, state, mixed), through_float16=backbone.through_float16)

    def _state(
        self, backbone: Backbone, weights: Weights, mixture: Mixture, mixed: Condition, generator: torch.Generator
    ) -> State:
        """A state to measure harm at. Only texts have frozen trajectories, so the likeliest stands for the mixture."""
        start = mixed if self.states == "student" else mixture.likeliest().repeat(self.batch)
        return reached(backbone, weights, start, generator, self.states, self.guidance)

    def candidates(self, concept: Concept) -> tuple[str, ...]:
        """The texts that may be preserved: the vocabulary's lines that do not name the concept, or the retain prompts.

        FileNotFoundError without the file, ValueError if no line is left.
        """
        if not self.vocabulary:
            return concept.retain
        return read_words(Path(self.vocabulary), (*concept.called(), *concept.synonyms))

    def texts(self, backbone: Backbone, condition: Condition, words: Sequence[str]) -> list[str]:
        """The texts of the mixture for the prompt of a condition of one row."""
        near = nearest(backbone, condition, words, self.nearest, self.nearness)
        return spread(near, self.centres or len(near))

    def erasure(
        self, backbone: Backbone, weights: Weights, state: State, condition: Condition, empty: Condition
    ) -> Tensor:
        """The distance, a scalar, of the student's prediction for the concept to the frozen one guided away from it."""
        uncond, cond = frozen(backbone, state, empty), frozen(backbone, state, condition)
        return self._distance(backbone, weights, state, condition, negative_guidance(uncond, cond, self.scale))

    def harm(self, backbone: Backbone, weights: Weights, state: State, mixed: Condition) -> Tensor:
        """The distance, a scalar, of student and frozen network on a mixture; gradients pass through the student."""
        return self._distance(backbone, weights, state, mixed, frozen(backbone, state, mixed))

    def _distance(
        self, backbone: Backbone, weights: Weights, state: State, condition: Condition, target: Tensor
    ) -> Tensor:
        with weights.attach(backbone):
            student = backbone.predict(state, condition)
        if self.space == "clean":
            process = needs(backbone, Diffuses, "choose space: prediction").process
            latent = state.latent.float()
            student, target = (process.clean(latent, value.float(), state.time) for value in (student, target))
        return backbone.distance(student, target)


class Mixture(Adversary):
    """A weighted mean of whole embeddings; its logits (1, K) are what moves."""

    def __init__(self, candidates: Condition, temperature: float, hard: bool, lr: float) -> None:
        self.candidates, self.temperature, self.hard = candidates, temperature, hard
        size, device = len(candidates), candidates.tensors["embeds"].device
        super().__init__(torch.full((1, size), 1 / size, device=device), lr)

    @property
    def logits(self) -> Tensor:
        """The logits."""
        return self.values

    def draw(self, generator: torch.Generator) -> Condition:
        """One random mixture, a condition of one row."""
        return self.mix(torch.rand(self.logits.shape, generator=generator))

    def mix(self, uniform: Tensor) -> Condition:
        """The mixture, a condition of one row, of given uniform noise (1, K); masks are joined."""
        weights = gumbel_softmax(self.logits, uniform.to(self.logits), self.temperature, hard=self.hard)
        tensors = {}
        for name, value in self.candidates.tensors.items():
            if value.is_floating_point():
                tensors[name] = (weights.to(value.dtype) @ value.flatten(1)).view(1, *value.shape[1:])
            else:
                tensors[name] = value.amax(0, keepdim=True)
        return Condition(("",), tensors)

    def likeliest(self) -> Condition:
        """The candidate of the largest logit."""
        return self.candidates.rows([int(self.logits.argmax())])

    def step(self, harm: Tensor, *, through_float16: bool = False, keep_graph: bool = False) -> None:
        """One step of the logits towards more harm (a scalar)."""
        super().step(-harm, through_float16=through_float16, keep_graph=keep_graph)
