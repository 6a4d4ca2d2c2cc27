"""What a preset of an attack does while it searches: how often, what it moves, what it comes near to, when it stops.

The first steps are taken in full. The loops then run on with what those gave, so that the whole budget is counted.
"""

from __future__ import annotations

import dataclasses
import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook

from stages.attacks import concept_inversion, p4d, ring_a_bell, tina, unlearndiffatk
from stages.attacks.base import Attempt, Victim, load_attack
from stages.attacks.closed_gate import ClosedGate
from stages.attacks.shared.aims import Aim
from stages.interventions.lowrank import LowRank, linear_layers
from stages.interventions.membrane import Membrane, Permeability, gated_layers
from stages.interventions.weights import Weights
from stages.methods import textual_inversion
from stages.methods.shared.trained_weights import choose
from stages.params.concept import Concept
from stages.worlds.words import make_tokenizer
from tests.backbones import families
from tests.documented.watching import TWINS

TOKENS = 77  # that the text encoder of Stable Diffusion reads
LIVE = 2  # generations that are bred in full
RESISTS, SHOWS, YIELDS = "a red circle", "a red square", "a red cross"  # never; without an attack; at the second look
RED = Concept(
    "red",
    (RESISTS, SHOWS, YIELDS),
    ("a circle", "a square", "a cross"),
    ("a green ring",),
    words=("red",),
)


@dataclass
class Moved:
    """An optimizer and how often it stepped; `rows` of its parameter have a gradient."""

    optimizer: torch.optim.Optimizer
    rows: int
    steps: int = 0


@dataclass
class Hunted:
    """What was seen."""

    attempt: Attempt | None = None
    trainings: list[Any] = field(default_factory=list)  # of attacks that train through the common loop
    optimizers: list[Moved] = field(default_factory=list)
    times: list[int] = field(default_factory=list)  # each once, as they come
    losses: set[str] = field(default_factory=set)
    networks: set[str] = field(default_factory=set)  # whose predictions have a gradient
    encoders: set[str] = field(default_factory=set)  # which read the text of the search
    looks: dict[str, list[int]] = field(default_factory=dict)  # steps before each look, by the prompt attacked
    populations: list[Tensor] = field(default_factory=list)
    generations: list[int] = field(default_factory=list)  # of each genetic search that was bred

    def count(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        """One step of an optimizer."""
        if not self.optimizers or self.optimizers[-1].optimizer is not optimizer:
            gradient = optimizer.param_groups[0]["params"][0].grad
            size = len(gradient) if gradient.ndim == 4 else int(gradient[0].flatten(1).any(1).sum())
            self.optimizers.append(Moved(optimizer, size))
        self.optimizers[-1].steps += 1


def reader(backbone: str) -> Any:
    """The smallest network of the checkpoint's structure, which reads as many tokens as the checkpoint."""

    def long_tokenizer() -> Any:
        tokenizer = make_tokenizer()
        tokenizer.model_max_length = TOKENS
        return tokenizer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(families, "make_tokenizer", long_tokenizer)
        return families.FAMILIES[TWINS[backbone]].make(steps=2, text_length=TOKENS)


def edited(network: Any, gated: bool) -> Any:
    """An edit that changes every prediction, of the attention's weights or behind a gate."""
    if gated:
        blocks = sorted({site.block for site in network.select("block", stream="image")})
        layers = gated_layers(linear_layers(network, blocks))
        change = LowRank.create(network, layers, 1, torch.Generator().manual_seed(0), spread=0.1)
        return Membrane.of(network, [change], [("red",)], Permeability("tokens"))
    return Weights.copy(network, choose(network, "cross-attn"))


def hunt(name: str, backbone: str, **changes: Any) -> Hunted:
    """Runs the preset on its backbone's twin, against a judge whose verdicts are known."""
    seen, network = Hunted(), reader(backbone)
    attack = dataclasses.replace(load_attack(name, backbone), **changes)
    intervention = edited(network, isinstance(attack, ClosedGate))
    handle = register_optimizer_step_post_hook(seen.count)
    try:
        with pytest.MonkeyPatch.context() as patch:
            watch_network(network, intervention, seen, patch)
            watch_tokens(seen, patch)
            watch_others(seen, patch)
            seen.attempt = attack.search(network, RED, seed=0, victim=Victim(intervention, judge(seen)))
    finally:
        handle.remove()
    return seen


def judge(seen: Hunted) -> Any:
    """Sees the concept in the pictures of SHOWS alone, and at the second look at what was found for YIELDS."""
    asked: list[str] = []

    def sees(pictures: Tensor, prompts: list[str]) -> list[bool]:
        if prompts[0] in RED.prompts:
            asked.append(prompts[0])
            return [prompts[0] == SHOWS]
        looks = seen.looks.setdefault(asked[-1], [])
        begun = len(seen.optimizers) == len(seen.looks)  # an optimizer is seen with its first step
        looks.append(seen.optimizers[-1].steps if begun else 0)
        return [asked[-1] == YIELDS and len(looks) == 2]

    return sees


def watch_network(network: Any, intervention: Any, seen: Hunted, patch: pytest.MonkeyPatch) -> None:
    """Notes which network predicts and which encoder reads, and draws pictures of one size once."""
    opened: list[Any] = []
    kind = type(intervention)
    of_kind, predict, sample, encode = kind.attach, network.predict, network.sample, network.encode
    drawn: dict[int, Tensor] = {}

    def whose() -> str:
        return "edited" if opened else "unedited"

    @contextmanager
    def attach(self, backbone):
        with of_kind(self, backbone):
            opened.append(self)
            try:
                yield
            finally:
                opened.pop()

    def noting_predict(state, condition):
        value, by = predict(state, condition), whose()
        value.whose = by
        network.predicted = value
        if value.requires_grad:
            value.register_hook(lambda gradient: seen.networks.add(by))
        return value

    def noting_sample(condition, **run):
        if len(condition) not in drawn:
            drawn[len(condition)] = sample(condition, **run)
        return drawn[len(condition)]

    def noting_encode(prompts):
        if torch.is_grad_enabled():
            seen.encoders.add(whose())
        return encode(prompts)

    def noting_bench(self, ids, of=ring_a_bell.Bench.encode):
        seen.encoders.add(whose())
        return of(self, ids)

    patch.setattr(kind, "attach", attach)
    patch.setattr(network, "predict", noting_predict)
    patch.setattr(network, "sample", noting_sample)
    patch.setattr(ring_a_bell.Bench, "encode", noting_bench)
    patch.setattr(network, "encode", noting_encode)
    network.predicted = None


def watch_tokens(seen: Hunted, patch: pytest.MonkeyPatch) -> None:
    """Searches for free tokens: one loss of each is computed, and each training time is noised once."""
    states: dict[Any, Any] = {}
    noise: list[Tensor] = []

    def state(self, number, time, owner, of=Aim.state):
        if time not in states:
            states[time] = of(self, number, time, owner)
            if torch.is_grad_enabled():
                seen.times.append(time)
        return states[time]

    def noised(self, clean, draws, time, of=Aim.noised):
        noise.append(draws)
        return of(self, clean, draws, time)

    def distance(self, *args, of):
        prediction, target = args[-2:]
        if prediction is self.network.predicted:
            own = any(torch.equal(target, each) for each in noise)
            seen.losses.add("noise" if own else f"{getattr(target, 'whose', 'other')} prediction")
        return of(self, *args)

    def once(of):
        def loss(self, *args):
            if not hasattr(self, "computed"):
                self.network = self.reader.backbone
                self.computed = of(self, *args)
            return self.computed

        return loss

    def step_once(of):
        def step(self, gradient):
            if seen.optimizers and self.adam is seen.optimizers[-1].optimizer:
                seen.optimizers[-1].steps += 1
            else:
                of(self, gradient)

        return step

    def draw(self, owner, of=unlearndiffatk.Simplex.draw):
        if not hasattr(self, "drawn"):
            self.drawn = of(self, owner)
        return self.drawn

    patch.setattr(unlearndiffatk.Simplex, "draw", draw)
    patch.setattr(Aim, "random_time", lambda self, owner: 500)
    for moved in (unlearndiffatk.Simplex, p4d.Rows):
        patch.setattr(moved, "step", step_once(moved.step))
    patch.setattr(Aim, "state", state)
    patch.setattr(Aim, "noised", noised)
    for hunting in (unlearndiffatk.Hunt, p4d.Hunt):
        patch.setattr(hunting, "_distance", lambda self, *args, of=hunting._distance: distance(self, *args, of=of))
        patch.setattr(hunting, "loss", once(hunting.loss))


def watch_others(seen: Hunted, patch: pytest.MonkeyPatch) -> None:
    """Searches for vectors, latents and whole prompts."""
    encoded: list[Tensor] = []

    def one_step(loss, parameters, training, **options):
        parameters = list(parameters)
        seen.trainings.append(training)
        loss(0, torch.Generator().manual_seed(0)).backward()
        seen.optimizers.append(
            Moved(training.adam(parameters), sum(int(each.grad.any(1).sum()) for each in parameters))
        )

    def examples_of(learner):
        own, compare = learner.examples, learner.distance

        def examples(*args, **options):
            learner.target = own(*args, **options)
            return learner.target

        def distance(prediction, target):
            if prediction is learner.predicted and target is learner.target[1]:
                seen.losses.add("noise")
            return compare(prediction, target)

        return examples, distance

    def learn(self, backbone, pictures, *, seed, of=textual_inversion.TextualInversion.learn):
        backbone.examples, backbone.distance = examples_of(backbone)
        return of(self, backbone, pictures, seed=seed)

    def rest(self, path, number, before, latent, null, of=tina.TINA.rest):
        if seen.optimizers:
            return (0 * latent).sum()
        value = of(self, path, number, before, latent, null)
        first, second = path.factors(number, before)
        if torch.equal(value, (first * before + second * path.backbone.predicted - latent).square().sum()):
            seen.losses.add("own inverse")
        return value

    def guess(self, path, number, before, null, of=tina.TINA.guess):
        return before.clone() if seen.optimizers else of(self, path, number, before, null)

    def fitness(states, target, of=ring_a_bell.fitness):
        seen.losses.add("encoding")
        return of(states, target)

    def evolve(self, encode, target, tokens, frame, draws, of=ring_a_bell.RingABell.evolve):
        if not seen.generations:

            def encode_some(ids):
                seen.generations[-1] += 1
                if len(encoded) <= LIVE:
                    seen.populations.append(ids)
                    encoded.append(encode(ids))
                return encoded[-1]

            seen.generations.append(0)
            encoded.append(of(self, encode_some, target, tokens, frame, draws))
        else:
            seen.generations.append(seen.generations[0])
        return encoded[-1]

    def crossed(self, parents, rate, length, of=ring_a_bell.Draws.crossed):
        return of(self, parents, rate, length) if len(encoded) <= LIVE else seen.populations[-1]

    def mutated(self, population, *args, of=ring_a_bell.Draws.mutated):
        return of(self, population, *args) if len(encoded) <= LIVE else population

    patch.setattr(textual_inversion, "minimize", one_step)
    patch.setattr(textual_inversion.TextualInversion, "learn", learn)
    patch.setattr(tina.TINA, "rest", rest)
    patch.setattr(tina.TINA, "guess", guess)
    patch.setattr(ring_a_bell, "fitness", fitness)
    patch.setattr(ring_a_bell.RingABell, "evolve", evolve)
    patch.setattr(ring_a_bell.Draws, "crossed", crossed)
    patch.setattr(ring_a_bell.Draws, "mutated", mutated)


def manner(prompt: str, start: str) -> str:
    """How what was found stands to the prompt it was found for."""
    without = start.replace("red ", "")
    if not re.sub(r"<\w+ \d+>", "", prompt).strip():
        return "nothing"
    if prompt != start and prompt.endswith(start):
        return "before the prompt"
    if prompt.endswith(without) and "red" not in prompt.split():
        return "before the rest"
    if concept_inversion.ConceptInversion.alias in prompt:
        return "template"
    rest = iter(prompt.split())
    return "between words" if all(word in rest for word in start.split()) else "alone"
