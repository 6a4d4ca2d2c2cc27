"""An attack that knows the gate: prompts that ask for the concept while the erasure's gate stays closed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from stages.attacks.base import UNEDITED, Attempt, Found, Victim
from stages.attacks.shared.aims import Aim
from stages.attacks.shared.pictures import drawn_pictures
from stages.attacks.unlearndiffatk import Hunt, Simplex, UnlearnDiffAtk
from stages.backbones.core.base import Backbone
from stages.control.mentions import are_nouns, without
from stages.control.state import Condition, State
from stages.interventions.conditional import Conditional, all_watched, gates_of, opened
from stages.interventions.starts import as_sampled
from stages.methods.shared.free_tokens import Reader
from stages.params.concept import Concept
from stages.params.types import NonNegative
from stages.seeds import Purpose, generators, hashed


@dataclass(frozen=True)
class ClosedGate(UnlearnDiffAtk):
    """Free tokens whose loss is UnlearnDiffAtk's, towards pictures of the concept, + weight x how far the gate is open.

    For erasures that act only where a gate lets them. No free token is one of the words that open the gate. Ours.
    """

    GATED: ClassVar[bool] = True  # methods without a gate are refused

    weight: NonNegative = 1.0  # of the gate, which is between 0 and 1; 0 is UnlearnDiffAtk without these words
    words: Literal["drop", "keep"] = "drop"  # leaves the concept's own words out of the prompt, which would open it

    def search(self, backbone: Backbone, concept: Concept, *, seed: int, victim: Victim = UNEDITED) -> Attempt:
        """One prompt for each of the concept's; the notes have how far the gate is open for both of them.

        ValueError for an erasure without a gate, and for a backbone that reads no text or cannot learn from pictures.
        """
        gates = gates_of(victim.intervention)
        if not gates:
            kind = type(victim.intervention).__name__
            raise ValueError(f"closed_gate looks past a gate, and {kind} has none; choose unlearndiffatk")
        prompts = concept.prompts[: self.attempts or None]
        aim = Aim.at(backbone, drawn_pictures(backbone, prompts, len(prompts), seed))
        reader, keywords = Reader(backbone), {*concept.called(), *(word for gate in gates for word in gate.keywords)}
        with victim.attach(backbone):
            hunts = []
            for number, prompt in enumerate(prompts):
                words = self.words_of(prompt, sorted(keywords), concept.prompts)
                hunts.append(GateHunt(self, reader, aim, (prompt, words), number, gates))
            found = [hunt.run(victim, seed) for hunt in hunts]
            openings = [hunt.openings(one, seed) for hunt, one in zip(hunts, found, strict=True)]
            return Attempt.of(found, gates=openings)

    def words_of(self, prompt: str, keywords: Sequence[str], prompts: Sequence[str]) -> str:
        """The words that stay beside the free tokens."""
        if self.words == "keep":
            return prompt
        return without(prompt, keywords, noun=are_nouns(keywords, prompts))


class GateHunt(Hunt):
    """The search for one prompt, given with the words of it that stay."""

    def __init__(
        self,
        attack: ClosedGate,
        reader: Reader,
        aim: Aim,
        prompt: tuple[str, str],
        number: int,
        gates: list[Conditional],
    ) -> None:
        super().__init__(attack, reader, aim, prompt[0], number)
        self.words, self.gates, self.weight = prompt[1], gates, attack.weight
        self.told: list[list[Tensor]] = []
        keep = torch.tensor([int(i) not in self._opening() for i in self.ids])
        self.ids = self.ids[keep]
        self.tables = {part: table[keep.to(table.device)] for part, table in self.tables.items()}

    def loss(self, simplex: Simplex, drawn: Tensor, state: State, target: Tensor) -> tuple[Tensor, Tensor]:
        """The loss (a scalar) at drawn tokens (K,), and its gradient (1, K, V) in their one-hot rows."""
        with all_watched(self.gates) as self.told:
            return super().loss(simplex, drawn, state, target)

    def value(self, state: State, condition: Condition, target: Tensor, said: str) -> Tensor:
        """The loss, a scalar: how far the prediction misses, and how far the gate is open."""
        self.reader.backbone.attached.rewrite(said)  # which gates of words read
        missed = super().value(state, replace(condition, prompts=(said,)), target, said)
        return missed + self.weight * opened(self.told).to(missed)

    @torch.no_grad()
    def openings(self, found: Found, seed: int) -> dict[str, float]:
        """How far the gate is open for the prompt that was attacked, and for the one that was found."""
        backbone, openings = self.reader.backbone, {}
        times = self.aim.times(1)
        (owner,) = generators([hashed(Purpose.ATTACK, "gate", seed, self.number)])
        state, _ = self.aim.state(self.number, times[0], owner)
        for name, prompt in {"start": found.start, "found": found.prompt}.items():
            with all_watched(self.gates) as told:
                as_sampled(backbone, state, backbone.encode([prompt]))
            openings[name] = float(opened(told))
        return openings

    def _opening(self) -> set[int]:
        """The ids of all tokens of the words that open the gate, at the beginning of a text and inside it."""
        tokenize, words = self.reader.tokenizer, {word for gate in self.gates for word in gate.keywords}
        texts = [text for word in words for text in (word, f" {word}")]
        return {i for text in texts for i in tokenize(text, add_special_tokens=False).input_ids}
