"""Erasing with Adversarial Preservation (arXiv 2410.15618): preserve what erasing would harm most."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from stages.backbones.core.base import Backbone
from stages.backbones.core.capabilities import Diffuses, needs
from stages.control.state import Condition, State
from stages.interventions.weights import Weights
from stages.methods.shared.base import Prompts, States, frozen, preservation, reached
from stages.methods.shared.trained_weights import Train, choose
from stages.objectives import gumbel_softmax, negative_guidance
from stages.params.concept import Concept
from stages.params.types import Count, Natural, NonNegative, Rate
from stages.training.float16 import gradients
from stages.training.minimize import Schedule, minimize
from stages.training.processes import agreed, average_gradients

TOGETHER = 128  # words that are compared at once: encoded, a thousand of them may be gigabytes


@dataclass
class EAP:
    """ESD's erasure, while the prediction for the prompt that it harms most is held to the frozen network's.

    That prompt is a Gumbel-softmax mixture of the `nearest` of the retain prompts, or of the lines of the file
    `vocabulary` that hold no word of the concept, to each concept prompt; between two steps of the weights its logits
    take `search` steps of `search_lr` to make the harm larger. `weight` is what preserving counts for. `space`: errors
    of predictions (the paper), or of the final latents that they imply (`clean`, the released code). `preserve` is a
    second, plain preservation term on the retain prompts, which the paper does without.
    """

    train: Train = "xattn"
    scale: NonNegative = 1.0
    weight: NonNegative = 1.0
    space: Literal["prediction", "clean"] = "prediction"
    nearest: Count = 100
    vocabulary: str = ""
    temperature: Rate = 2.0
    hard: bool = False
    search: Count = 1
    search_lr: Rate = 1e-3
    states: States = "student"
    guidance: NonNegative = 3.0
    preserve: NonNegative = 0.0
    steps: Count = 500
    lr: Rate = 1e-5
    batch: Count = 1
    schedule: Schedule = "constant"
    warmup: Natural = 0

    def fit(self, backbone: Backbone, concept: Concept, *, seed: int) -> Weights:
        """Trains copies of the chosen weights, alternating with the search."""
        words = self.candidates(concept)
        prompts, empty = Prompts.of(backbone, concept.prompts), backbone.encode([""]).repeat(self.batch)
        if "embeds" not in prompts.condition.tensors:
            raise ValueError(f"EAP mixes the embeddings of texts, and {backbone.name} knows classes; choose esd")
        if self.preserve:
            backbone.gather(concept.retain, seed)
            retain = Prompts.of(backbone, concept.retain)
        found = [
            nearest(backbone, prompts.condition.rows([i]), words, self.nearest) for i in range(len(prompts.condition))
        ]
        if self.states == "frozen":
            backbone.gather([*concept.prompts, *(word for chosen in found for word in chosen)], seed)
        mixtures = [Mixture(backbone.encode(chosen), self.temperature, self.hard, self.search_lr) for chosen in found]
        weights = Weights.copy(backbone, choose(backbone, self.train))

        def states(mixture: Mixture, mixed: Condition, generator: torch.Generator) -> State:
            start = mixed if self.states == "student" else mixture.likeliest().repeat(self.batch)
            return reached(backbone, weights, start, generator, self.states, self.guidance)

        def loss(step: int, generator: torch.Generator) -> Tensor:
            (which,) = agreed(prompts.indices(1, generator))  # all processes search for the same prompt
            mixture, condition = mixtures[which], prompts.condition.rows([which] * self.batch)
            for _ in range(self.search):
                mixed = mixture.draw(generator).repeat(self.batch)
                harm = self.harm(backbone, weights, states(mixture, mixed, generator), mixed)
                mixture.step(harm, half=backbone.half)
            with torch.no_grad():
                mixed = mixture.draw(generator).repeat(self.batch)
            state = reached(backbone, weights, condition, generator, self.states, self.guidance)
            value = self.erasure(backbone, weights, state, condition, empty)
            value = value + self.weight * self.harm(backbone, weights, states(mixture, mixed, generator), mixed)
            if self.preserve:
                value = value + self.preserve * preservation(backbone, weights, retain, self.batch, generator)
            return value

        settings = {"steps": self.steps, "lr": self.lr, "schedule": self.schedule, "warmup": self.warmup}
        settings |= {"half": backbone.half}
        minimize(loss, weights.parameters(), **settings, optimizer="adam", seed=seed, companions=mixtures, label="eap")
        return weights

    def candidates(self, concept: Concept) -> tuple[str, ...]:
        """What may be preserved: the lines of the vocabulary but the concept's own words, or the retain prompts."""
        if not self.vocabulary:
            return concept.retain
        path = Path(self.vocabulary)
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing: the words that may be preserved, one a line")
        own = words_of(*concept.prompts) - words_of(*concept.neutral)
        lines = map(str.strip, path.read_text(encoding="utf-8").splitlines())
        words = tuple(line for line in lines if line and not own & words_of(line))
        if not words:
            raise ValueError(f"{path}: no words in it but the concept's own")
        return words

    def erasure(
        self, backbone: Backbone, weights: Weights, state: State, condition: Condition, empty: Condition
    ) -> Tensor:
        """The distance of the student's prediction for the concept to the frozen one guided away from it."""
        uncond, cond = frozen(backbone, state, empty), frozen(backbone, state, condition)
        return self._distance(backbone, weights, state, condition, negative_guidance(uncond, cond, self.scale))

    def harm(self, backbone: Backbone, weights: Weights, state: State, mixed: Condition) -> Tensor:
        """The distance of student and frozen network on the mixture; its gradient passes through the student alone."""
        return self._distance(backbone, weights, state, mixed, frozen(backbone, state, mixed))

    def _distance(
        self, backbone: Backbone, weights: Weights, state: State, condition: Condition, target: Tensor
    ) -> Tensor:
        with weights.attach(backbone):
            student = backbone.predict(state, condition)
        if self.space == "clean":
            process = needs(backbone, Diffuses, "choose space: prediction").process
            student, target = (process.clean(state.latent, value, state.time) for value in (student, target))
        return backbone.distance(student, target)


def nearest(backbone: Backbone, condition: Condition, words: Sequence[str], many: int) -> list[str]:
    """The words whose embeddings have the largest cosine similarity to the condition's one row."""
    target, parts = condition.tensors["embeds"].flatten(1).float(), []  # in bf16 too many cosines are equal
    for start in range(0, len(words), TOGETHER):
        embeds = backbone.encode(words[start : start + TOGETHER]).tensors["embeds"]
        parts.append(cosine_similarity(embeds.flatten(1).float(), target, dim=1))
    similarity = torch.cat(parts)
    return [words[i] for i in similarity.topk(min(many, len(words))).indices.tolist()]


def words_of(*texts: str) -> set[str]:
    """The words of texts, in small letters and without punctuation."""
    return {word for text in texts for word in re.findall(r"\w+", text.lower())}


class Mixture:
    """A weighted mean of whole embeddings, its logits, and the Adam that moves them."""

    def __init__(self, candidates: Condition, temperature: float, hard: bool, lr: float) -> None:
        self.candidates, self.temperature, self.hard = candidates, temperature, hard
        size = len(candidates)
        self.logits = torch.full((1, size), 1 / size, device=candidates.tensors["embeds"].device, requires_grad=True)
        self.adam = torch.optim.Adam([self.logits], lr=lr)

    def draw(self, generator: torch.Generator) -> Condition:
        """One random mixture."""
        return self.mix(torch.rand(self.logits.shape, generator=generator))

    def mix(self, uniform: Tensor) -> Condition:
        """The mixture of given uniform noise (1, K); masks are joined."""
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

    def step(self, harm: Tensor, *, half: bool = False) -> None:
        """One step of the logits towards more harm."""
        (self.logits.grad,) = gradients(-harm, [self.logits], half=half)
        average_gradients([self.logits])
        self.adam.step()

    def state_dict(self) -> dict[str, Any]:
        """Logits and optimizer."""
        return {"logits": self.logits.detach(), "adam": self.adam.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """What `state_dict` returned."""
        self.logits.data.copy_(state["logits"])
        self.adam.load_state_dict(state["adam"])
