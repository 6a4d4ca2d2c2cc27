"""Receler (arXiv 2311.17717): erasers after cross-attention, trained against adversarial prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from stages.backbones.core.base import Backbone
from stages.control.state import Condition, State
from stages.interventions.adapter import Adapter
from stages.methods.shared.adversary import Adversary
from stages.methods.shared.base import Prompts, States, frozen, reached
from stages.methods.shared.localised import Localised
from stages.methods.shared.preservation import Preservation
from stages.objectives import negative_guidance
from stages.params.concept import Concept
from stages.params.kept import Reads
from stages.params.types import Count, Departs, Natural, Needs, NonNegative, Rate
from stages.reading.concept_masks import concept_tokens
from stages.seeds import Purpose, generator
from stages.training.float16 import LossScale
from stages.training.minimize import minimize
from stages.training.progress import Companion
from stages.training.settings import Adam, Training


@dataclass(frozen=True, kw_only=True)
class Receler(Localised, Training):
    """prediction(concept + e) -> uncond - scale (cond - uncond) for vectors e in the prompt that try to undo it.

    Each step the vectors take `inner` steps towards the frozen prediction, and the adapters one step on what the last
    of these steps was given. arXiv 2311.17717.
    """

    DEPARTS: ClassVar[Departs] = {
        "states": "states: {states}",
        "localise > 0": "localise: {localise}",
        "preserve > 0": "preserve: {preserve}",
    }
    READS: ClassVar[Reads] = {"states": {"frozen": "all"}, "preserve": "all"}
    NEEDS: ClassVar[Needs] = {
        "guidance": {"states": ("student", "fresh")},
        "slots": {"prompt": ("intended",)},
        "inner": {"prompt": ("intended",)},
        "attack_lr": {"prompt": ("intended",)},
        "attack_decay": {"prompt": ("intended",)},
        "empty": {"preserve": True},
    }

    scale: NonNegative = 1.0  # how far from the concept
    localise: NonNegative = 0.1
    side: int | None = 16
    prompt: Literal["intended", "released"] = "intended"  # the released code never writes the vectors into the prompt
    slots: Count = 16  # vectors
    inner: Count = 50  # steps of the vectors per batch
    attack_lr: Rate = 0.1  # of the vectors
    attack_decay: NonNegative = 0.1  # weight decay of the vectors
    states: States = "student"  # partial samples: of the network in training (the paper), or see States
    guidance: NonNegative = 3.0  # at which new ones are sampled
    preserve: NonNegative = 0.0  # weight of the distance to the frozen network on retain prompts; the paper has none
    empty: Natural = 0  # how many of these the empty prompt counts as, from which guidance starts
    batch: Count = 1
    steps: Count = 500
    lr: Rate = 3e-4
    optimizer: Adam = "adam"

    def fit(self, backbone: Backbone, concept: Concept, *, seed: int) -> Adapter:
        """The trained adapters; ValueError for a backbone that reads no text, or fields that contradict each other."""
        concept = self.learned(concept)
        prompts, empty = Prompts.of(backbone, concept.prompts), backbone.encode([""]).repeat(self.batch)
        if "embeds" not in prompts.condition.tensors:
            raise ValueError(f"Receler attacks the embeddings of texts, and {backbone.name} knows classes; choose esd")
        positions = concept_tokens(backbone, concept.prompts, (*concept.called(), *concept.synonyms))
        if self.states == "frozen":
            backbone.gather(concept.prompts, seed)
        preservation = Preservation.of(backbone, concept, self.preserve, self.empty, seed)
        adapter = self.adapter(backbone, seed)
        enemy = self.enemy(prompts.condition, seed)

        def loss(step: int, generator: torch.Generator) -> Tensor:
            rows = prompts.indices(self.batch, generator)
            condition = prompts.condition.rows(rows)
            state = reached(backbone, adapter, condition, generator, self.states, self.guidance)
            value = self.erasure(backbone, adapter, enemy, state, condition, empty, [positions[i] for i in rows])
            return value + preservation(adapter, self.batch, generator)

        companions: list[Companion] = [enemy, LossScale(backbone.through_float16)]
        minimize(loss, adapter.parameters(), self, seed=seed, label="receler", companions=companions)
        return adapter.requires_grad_(False)

    def enemy(self, condition: Condition, seed: int) -> Enemy:
        """The adversary at its start, for a condition with `embeds` (B, L, D)."""
        return Enemy(self.slots, condition.tensors["embeds"], self.attack_lr, self.attack_decay, seed)

    def erasure(
        self,
        backbone: Backbone,
        adapter: Adapter,
        enemy: Enemy,
        state: State,
        condition: Condition,
        empty: Condition,
        positions: Sequence[Sequence[int]],
    ) -> Tensor:
        """The adapters' loss, a scalar, after the adversary's steps; the adversary's last update follows it.

        `positions` are those of the concept's tokens in each prompt.
        """
        uncond, cond = frozen(backbone, state, empty), frozen(backbone, state, condition)
        starts = enemy.starts(backbone, condition)
        for remaining in reversed(range(self.inner)):
            used = enemy.write(condition, starts) if self.prompt == "intended" else condition
            with adapter.attach(backbone), adapter.traced() as added:
                student = backbone.predict(state, used)
            if self.prompt == "intended":
                recovery = backbone.distance(student, cond)
                enemy.step(recovery, through_float16=backbone.through_float16, keep_graph=not remaining)
            elif remaining:
                continue
        value = backbone.distance(student, negative_guidance(uncond, cond, self.scale))
        if self.localise:
            value = value + self.elsewhere(added, self.masks(backbone, state, condition, empty, positions, added))
        return value


class Enemy(Adversary):
    """Vectors (slots, D) that are written into a prompt's embedding after its last word."""

    def __init__(self, slots: int, embeds: Tensor, lr: float, decay: float, seed: int) -> None:
        start = torch.rand(slots, embeds.shape[-1], generator=generator(Purpose.ENEMY, seed))
        super().__init__(nn.Parameter(start.to(embeds.device)), lr, decay)

    @property
    def vectors(self) -> Tensor:
        """The vectors."""
        return self.values

    def starts(self, backbone: Backbone, condition: Condition) -> list[int]:
        """The position after the last word of each prompt."""
        return [len(ids) - 1 for ids in backbone.texts.tokenize(condition.prompts)]

    def write(self, condition: Condition, starts: Sequence[int]) -> Condition:
        """The condition, `embeds` (B, L, D), with the vectors in it from each row's start, as many as have room."""
        embeds, new = condition.tensors["embeds"], {}
        rows = []
        for row, start in zip(embeds, starts, strict=True):
            room = min(len(self.vectors), len(row) - start)
            rows.append(torch.cat([row[:start], self.vectors[:room].to(row.dtype), row[start + room :]]))
        if (mask := condition.tensors.get("mask")) is not None:
            at = torch.arange(mask.shape[1], device=mask.device)
            ends = torch.tensor(starts, device=mask.device)[:, None] + len(self.vectors)
            new["mask"] = mask.masked_fill(at < ends, 1)
        return condition.with_tensors(embeds=torch.stack(rows), **new)
