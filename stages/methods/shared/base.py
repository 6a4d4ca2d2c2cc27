"""What methods share: the interface, loading by name, and the fitting of copied weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal, Protocol

import torch
from torch import Tensor

from stages.backbones.core.base import Backbone
from stages.backbones.core.bits import certain
from stages.backbones.core.capabilities import Bits, Diffuses, Walks, needs
from stages.control.state import Condition, State
from stages.interventions.base import Intervention
from stages.params import build, method_params
from stages.params.concept import Concept
from stages.seeds import drawn


class Method(Protocol):
    """A dataclass whose fields are the hyperparameters."""

    def fit(self, backbone: Backbone, concept: Concept, *, seed: int) -> Intervention:
        """The intervention that this method makes of the backbone for the concept."""


def load_method(name: str, backbone: str, root: Path | str = "params", kind: str = "") -> Method:
    """The method of params/methods/<name>.yaml with its settings on that backbone, for concepts of a kind."""
    return build(method_params(name, backbone, root, kind), f"{root}/methods/{name}.yaml")


@dataclass
class Prompts:
    """Prompts encoded once, drawn at random per row; for training loops."""

    condition: Condition

    @classmethod
    def of(cls, backbone: Backbone, prompts: Sequence[str]) -> Prompts:
        """The prompts as encoded with whatever is attached now."""
        return cls(backbone.encode(prompts))

    def draw(self, n: int, generator: torch.Generator) -> Condition:
        """n random rows."""
        return self.condition.rows(self.indices(n, generator))

    def indices(self, n: int, generator: torch.Generator) -> list[int]:
        """n random positions, for prompts that are paired with others."""
        return torch.randint(len(self.condition), (n,), generator=generator).tolist()


class Attachable(Protocol):
    """What a method trains: an intervention, or what becomes one."""

    def attach(self, backbone: Backbone) -> AbstractContextManager[None]:
        """Changes the backbone while the context is open."""


def frozen(backbone: Backbone, state: State, condition: Condition) -> Tensor:
    """The prediction (of the latent's shape) without gradients: of the unedited network while nothing is attached."""
    with torch.no_grad():
        return backbone.predict(state, condition)


# Partial samples that a method trains on: new ones of the network in training, those of the gathered pool, which the
# frozen network made at the backbone's own guidance, or new ones of the frozen network.
States = Literal["student", "frozen", "fresh"]


def reached(
    backbone: Backbone,
    attached: Attachable,
    condition: Condition,
    generator: torch.Generator,
    states: States,
    guidance: float,
) -> State:
    """A state with a latent (B, ...) per row of the condition: from the gathered pool (`frozen`), or of a new run at
    that guidance, stopped at a random step, of the network in training (`student`) or without it (`fresh`).

    ValueError for a new run on a backbone without runs that can stop.
    """
    if states == "frozen":
        return backbone.draw(condition, generator)
    if states == "fresh":
        return partial(backbone, condition, generator, guidance)
    with attached.attach(backbone):
        return partial(backbone, reread(backbone, condition), generator, guidance)


@torch.no_grad()
def partial(backbone: Backbone, condition: Condition, generator: torch.Generator, guidance: float) -> State:
    """The state at a random step of a guided run of the network as it is now; ValueError without such a run."""
    sampler = needs(backbone, Walks, "choose states: frozen")
    stop = int(torch.randint(backbone.calls(backbone.settings.steps), (), generator=generator))
    return next(islice(run(sampler, backbone, condition, generator, guidance), stop, None))


def run(
    sampler: Walks, backbone: Backbone, condition: Condition, generator: torch.Generator, guidance: float
) -> Iterator[State]:
    """Every state of a guided run of the backbone, which is `sampler`, as it is now, from noise of the generator on."""
    start, owners = sampler.begin(drawn(generator, len(condition)))
    return sampler.walk(condition, start, steps=backbone.settings.steps, guidance=guidance, generators=owners)


def noised(backbone: Backbone, condition: Condition, generator: torch.Generator) -> tuple[State, Tensor]:
    """The forward process at random times on gathered final samples, and what the network should predict there, of the
    latent's shape; ValueError for a backbone without one."""
    diffuses = needs(backbone, Diffuses, "choose states: trajectory")
    process, clean = diffuses.process, diffuses.finals(condition, generator)
    times = process.random_times(len(clean), generator).to(clean.device)
    noise = torch.randn(clean.shape, generator=generator).to(clean)
    state = State(process.noised(clean, noise, times), times, 0, final=clean)
    return state, process.target(clean, noise, times)


def shown(backbone: Backbone, condition: Condition, generator: torch.Generator) -> tuple[State, Tensor]:
    """States made of gathered samples, and what the network should predict there: noised ones, or all scales of bits.

    ValueError for a backbone with neither.
    """
    if not isinstance(backbone, Bits):
        return noised(backbone, condition, generator)
    state = backbone.draw(condition, generator)
    return state, certain(state.end())


def reread(backbone: Backbone, condition: Condition) -> Condition:
    """The condition as text encoders read its prompts now; itself if nothing edits the encoders."""
    return backbone.encode(condition.prompts) if backbone.attached.text_swaps else condition
