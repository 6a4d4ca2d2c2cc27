"""AdvUnlearn (arXiv 2405.15234): erasure against prompts that an adversary finds anew at every step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from stages.backbones.core.base import Backbone
from stages.control.state import Condition, State
from stages.interventions.weights import Weights
from stages.methods.shared.base import Prompts, States, frozen, reached
from stages.methods.shared.data import FromPrompts
from stages.methods.shared.prefix import Encoded, Prefix, Words
from stages.methods.shared.preservation import Preservation
from stages.methods.shared.trained_weights import Train, choose
from stages.objectives import negative_guidance
from stages.params.concept import Concept
from stages.params.kept import Reads
from stages.params.types import Count, Natural, Needs, NonNegative, Rate, Refuses
from stages.seeds import Purpose, generator
from stages.training.float16 import LossScale
from stages.training.minimize import minimize
from stages.training.processes import agreed
from stages.training.progress import Companion
from stages.training.settings import Adam, Training


@dataclass(frozen=True, kw_only=True)
class AdvUnlearn(FromPrompts, Training):
    """prediction(prefix + concept) -> uncond - scale (cond - uncond), + preserve x the distance to the frozen network
    on prompts that stay; the prefix takes `inner` steps towards the frozen prediction first. arXiv 2405.15234.

    Rows of the network per step: (inner + 1) x batch with gradients and (inner + 2) x batch without, R = retain_batch
    with and R without; states of the student add its runs, (inner + 1) of them, half of all calls each on average.
    """

    READS: ClassVar[Reads] = {"states": {"frozen": "all"}, "preserve": "all"}
    NEEDS: ClassVar[Needs] = {
        "guidance": {"states": ("student", "fresh")},
        "retain_batch": {"preserve": True},
        "empty": {"preserve": True},
    }
    REFUSES: ClassVar[Refuses] = {
        "peace >= steps": "peace: {peace} of {steps} steps leaves none to attack in; lower it or choose esd"
    }

    train: Train | Literal["text_encoder"] = "text_encoder"  # which weights; the encoder's without its embeddings
    scale: NonNegative = 1.0  # how far from the concept
    # Where the prefix is: before the text encoders, or behind them. `auto`: before, unless they read a prompt inside a
    # longer text.
    space: Literal["auto", "words", "encoded"] = "auto"
    tokens: Count = 1  # of the prefix
    attack: Literal["pgd", "fast"] = "pgd"  # steps by gradients, or by their signs (one of which is the fast variant)
    start: Literal["random", "latest"] = "random"  # of every attack: random tokens, or where the last one ended
    inner: Count = 30  # steps of an attack
    attack_lr: Rate = 1e-3  # of the prefix
    peace: Natural = 200  # steps without a prefix before the first attack
    states: States = "frozen"  # partial samples of the frozen network, or of the one in training (the paper)
    guidance: NonNegative = 3.0  # at which the network in training samples them
    preserve: NonNegative = 0.3  # weight of the distance to the frozen network on retain prompts
    retain_batch: Count = 5  # of these
    empty: Natural = 0  # how many of these the empty prompt counts as, from which guidance starts
    batch: Count = 1  # states of the one prompt of a step
    steps: Count = 1000
    lr: Rate = 1e-5
    optimizer: Adam = "adam"

    def fit(self, backbone: Backbone, concept: Concept, *, seed: int) -> Weights:
        """The trained weights; ValueError for a backbone that reads no text, or whose encoders take no free tokens, or
        fields that contradict each other."""
        concept = self.learned(concept)
        prompts, empty = Prompts.of(backbone, concept.prompts), backbone.encode([""]).repeat(self.batch)
        if "embeds" not in prompts.condition.tensors:
            raise ValueError(f"AdvUnlearn attacks the prompts of texts, and {backbone.name} knows classes; choose esd")
        prefix = self.prefix(backbone, prompts.condition, seed)
        names = encoder_weights(backbone) if self.train == "text_encoder" else choose(backbone, self.train)
        weights = Weights.copy(backbone, names)
        if self.states == "frozen":
            backbone.gather(concept.prompts, seed)
        preservation = Preservation.of(backbone, concept, self.preserve, self.empty, seed)

        def loss(step: int, draws: torch.Generator) -> Tensor:
            (which,) = agreed(prompts.indices(1, draws))  # all processes attack the same prompt
            asked = prompts.condition.rows([which] * self.batch)
            attacked = step >= self.peace
            if attacked:
                self.search(backbone, weights, prefix, asked, draws)
            state = reached(backbone, weights, asked, draws, self.states, self.guidance)
            value = self.erasure(backbone, weights, prefix if attacked else None, state, asked, empty)
            return value + preservation(weights, self.retain_batch, draws)

        companions: list[Companion] = [prefix, LossScale(backbone.through_float16)]
        minimize(loss, weights.parameters(), self, seed=seed, label="advunlearn", companions=companions)
        return weights

    def prefix(self, backbone: Backbone, condition: Condition, seed: int) -> Prefix:
        """The adversary at random tokens, for a condition with `embeds` (B, L, D); ValueError for encoders that take no
        free tokens."""
        signed = self.attack == "fast"
        if self.space == "words" or (self.space == "auto" and backbone.texts.aligned):
            made: Prefix = Words(backbone, self.tokens, self.attack_lr, signed)
        else:
            made = Encoded(backbone, condition.tensors["embeds"], self.tokens, self.attack_lr, signed)
        made.begin(made.random(generator(Purpose.ENEMY, seed)))
        return made

    def search(
        self, backbone: Backbone, weights: Weights, prefix: Prefix, asked: Condition, draws: torch.Generator
    ) -> None:
        """An attack's steps on one prompt, from random tokens or from where the last attack ended."""
        if self.start == "random":
            prefix.begin(agreed(prefix.random(draws)))
        else:
            prefix.rest()
        for _ in range(self.inner):
            state = reached(backbone, weights, asked, draws, self.states, self.guidance)
            prefix.step(self.revival(backbone, weights, prefix, state, asked), through_float16=backbone.through_float16)

    def revival(self, backbone: Backbone, weights: Weights, prefix: Prefix, state: State, asked: Condition) -> Tensor:
        """The distance, a scalar, of the student's prediction for the attacked prompt to the frozen one without it."""
        target = frozen(backbone, state, asked)
        with weights.attach(backbone):
            return backbone.distance(backbone.predict(state, said(prefix, asked, moving=True)), target)

    def erasure(
        self,
        backbone: Backbone,
        weights: Weights,
        prefix: Prefix | None,
        state: State,
        asked: Condition,
        empty: Condition,
    ) -> Tensor:
        """The distance, a scalar, of the student's prediction for the attacked prompt to the frozen one pushed off the
        concept; for the prompt itself without a prefix."""
        target = negative_guidance(frozen(backbone, state, empty), frozen(backbone, state, asked), self.scale)
        with weights.attach(backbone):
            read = backbone.encode(asked.prompts) if prefix is None else said(prefix, asked, moving=False)
            return backbone.distance(backbone.predict(state, read), target)


def said(prefix: Prefix, asked: Condition, *, moving: bool) -> Condition:
    """The condition of rows of one prompt, with the prefix before it, as text encoders are now."""
    return prefix.before(asked.prompts[0], moving=moving).repeat(len(asked))


def encoder_weights(backbone: Backbone) -> list[str]:
    """Names of all parameters of the text encoders but their embeddings; ValueError without a text encoder."""
    names: list[str] = []
    for part, encoder in backbone.texts.encoders().items():
        tables = {id(m.weight) for m in encoder.modules() if isinstance(m, nn.Embedding)}
        names += [f"{part}.{name}" for name, value in encoder.named_parameters() if id(value) not in tables]
    if not names:
        raise ValueError(f"{backbone.name} has no text encoder to train; choose train: x")
    return names
