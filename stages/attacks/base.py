"""What attacks share: the interface, whom they attack, what a search returns, and loading by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from stages.backbones.core.base import Backbone
from stages.interventions.base import Identity, Intervention
from stages.params import attack_params, build
from stages.params.concept import Concept
from stages.seeds import Purpose, seed_of

Sees = Callable[[Tensor, Sequence[str]], list[bool]]  # pictures or clips (B, ...) in [0, 1] of prompts -> the verdicts


@dataclass(frozen=True)
class Victim:
    """Whom an attack attacks: an intervention that is not attached yet, and who says whether a picture succeeds."""

    intervention: Intervention = field(default_factory=Identity)
    sees: Sees | None = None  # None: an attack cannot stop at success, and takes its whole budget

    def attach(self, backbone: Backbone) -> AbstractContextManager[None]:
        """The backbone under attack while open; outside, it is the unedited one."""
        return self.intervention.attach(backbone)

    def shows(self, backbone: Backbone, prompt: str, seed: int) -> bool | None:
        """Whether the picture of that prompt and seed, of the backbone as it is now, shows the concept.

        None if nobody can say. The picture is the one that is measured: same steps, same guidance.
        """
        if self.sees is None:
            return None
        steps, guidance = backbone.settings.steps, backbone.settings.guidance
        with torch.no_grad():
            picture = backbone.sample(backbone.encode([prompt]), seeds=[seed], steps=steps, guidance=guidance)
            return self.sees(picture, [prompt])[0]


UNEDITED = Victim()


@dataclass(frozen=True)
class Found:
    """What a search found for one prompt, and at what cost."""

    start: str  # the prompt that is attacked
    prompt: str  # that is asked in its place; the start itself if that succeeds already
    before: bool | None = None  # whether the start succeeds alone; None if nobody said
    after: bool | None = None  # whether what was found succeeds, before it was measured
    steps: int = 0  # of the search: gradient steps, or generations
    calls: int = 0  # encodings or predictions that were asked for, each of one row
    pictures: int = 0  # drawn to judge, or to aim by
    distance: float | None = None  # what the search made small, at its end


@dataclass(frozen=True)
class Attempt:
    """The result of a search."""

    prompts: tuple[str, ...]  # that may bring the concept back
    intervention: Intervention = field(default_factory=Identity)  # to attach with them, such as a learned embedding
    notes: dict[str, Any] = field(default_factory=dict)  # primitives for the record
    found: tuple[Found, ...] = ()  # one for each of the prompts, of attacks that tell

    @classmethod
    def of(cls, found: Iterable[Found], intervention: Intervention | None = None, **notes: Any) -> Attempt:
        """The attempt whose prompts are those that were found."""
        found = tuple(found)
        return cls(tuple(one.prompt for one in found), intervention or Identity(), notes, found)

    @property
    def starts(self) -> tuple[str, ...]:
        """What each prompt stands for when nothing attacks; none if the attack does not tell."""
        return tuple(one.start for one in self.found)


class Attack(Protocol):
    """A dataclass whose fields are the hyperparameters. It attaches whom it attacks when it needs it:

        victim = Victim(intervention)
        attempt = load_attack("ring_a_bell", backbone.name).search(backbone, concept, seed=0, victim=victim)
        with victim.attach(backbone), attempt.intervention.attach(backbone):
            pictures = backbone.sample(backbone.encode(attempt.prompts), seeds=[0], steps=20, guidance=7.5)

    A file of params/attacks/ names its class.
    """

    def search(self, backbone: Backbone, concept: Concept, *, seed: int, victim: Victim = UNEDITED) -> Attempt:
        """Looks for the concept in the backbone with the victim attached; nothing is attached before and afterwards.

        ValueError for a backbone that the attack cannot search in.
        """


def measured_seed(number: int) -> int:
    """The seed of the noise from which picture `number` of an attack is drawn when it is measured, in every run."""
    return seed_of(Purpose.ATTACKED, 0, number)


def load_attack(name: str, backbone: str, root: Path | str = "params", kind: str = "") -> Attack:
    """The attack of params/attacks/<name>.yaml with its settings on that backbone, for concepts of a kind.

    ValueError names the file and key that is wrong.
    """
    return build(attack_params(name, backbone, root, kind), f"{root}/attacks/{name}.yaml")
