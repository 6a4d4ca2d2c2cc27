"""Receler (arXiv 2311.17717): erasers after cross-attention, trained against adversarial prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from stages.backbones.core.base import Backbone, Condition, State
from stages.control.sites import Site
from stages.interventions.adapter import Adapter
from stages.methods.shared.base import Prompts, States, frozen, preservation, reached, retained
from stages.objectives import Reduction, negative_guidance, outside
from stages.params.concept import Concept
from stages.params.types import Count, Fraction, Natural, NonNegative, Rate
from stages.reading.concept_masks import How, Locator, concept_tokens
from stages.training.float16 import gradients
from stages.training.minimize import Schedule, minimize
from stages.training.processes import average_gradients


@dataclass
class Receler:
    """Adapters learn uncond - scale (cond - uncond), although `slots` learned vectors in the prompt try to undo it.

    Each step the vectors take `inner` steps towards the frozen prediction, and the adapters one step on what the last
    of them was given (`intended`, the paper). The `released` code never writes the vectors into the prompt. `localise`
    weighs what the adapters add outside the concept's mask, which is cross-attention of `side` x `side` tokens (all
    sites when None) from `threshold` on; `reduction`: the `mean` there, or the `sum` that papers print. `preserve`
    weighs the distance to the frozen network on the retain prompts, which the paper does without; the empty prompt,
    from which guidance starts, counts as `empty` of them. Adapters stand where `kinds` says: after each attention that
    reads text, or after self-attention where none does; `block`, where text also comes in by other ways. A step takes
    the mean gradient of `accumulate` batches, one after another, each attacked by `inner` steps of its own.
    """

    rank: Count = 128
    kinds: tuple[str, ...] = ("cross_attn", "attn")
    scale: NonNegative = 1.0
    localise: NonNegative = 0.1
    reduction: Reduction = "mean"
    mask: How = "auto"
    side: int | None = 16
    threshold: Fraction = 0.1
    words: tuple[str, ...] = ()
    prompt: Literal["intended", "released"] = "intended"
    slots: Count = 16
    inner: Count = 50
    attack_lr: Rate = 0.1
    attack_decay: NonNegative = 0.1
    states: States = "student"
    guidance: NonNegative = 3.0
    preserve: NonNegative = 0.0
    empty: Natural = 0
    steps: Count = 500
    lr: Rate = 3e-4
    batch: Count = 1
    accumulate: Count = 1
    schedule: Schedule = "constant"
    warmup: Natural = 0

    def fit(self, backbone: Backbone, concept: Concept, *, seed: int) -> Adapter:
        """Trains fresh adapters at every site of the first of `kinds` that the network has."""
        prompts, empty = Prompts.of(backbone, concept.prompts), backbone.encode([""]).repeat(self.batch)
        if "embeds" not in prompts.condition.tensors:
            raise ValueError(f"Receler attacks the embeddings of texts, and {backbone.name} knows classes; choose esd")
        positions = concept_tokens(backbone, *zip(*concept.pairs(), strict=True), self.words)
        if self.states == "frozen":
            backbone.gather(concept.prompts, seed)
        kept = retained(concept, self.preserve, self.empty)
        if self.preserve:
            backbone.gather(kept, seed)
            retain = Prompts.of(backbone, kept)
        adapter = Adapter.fresh(backbone, backbone.select(*self.kinds, stream="image"), self.rank, seed)
        enemy = self.enemy(prompts.condition, seed)

        def loss(step: int, generator: torch.Generator) -> Tensor:
            rows = prompts.indices(self.batch, generator)
            condition = prompts.condition.rows(rows)
            state = reached(backbone, adapter, condition, generator, self.states, self.guidance)
            value = self.erasure(backbone, adapter, enemy, state, condition, empty, [positions[i] for i in rows])
            if self.preserve:
                value = value + self.preserve * preservation(backbone, adapter, retain, self.batch, generator)
            return value

        settings = {"steps": self.steps, "lr": self.lr, "schedule": self.schedule, "warmup": self.warmup}
        settings |= {"accumulate": self.accumulate, "half": backbone.half}
        minimize(
            loss, adapter.parameters(), **settings, optimizer="adam", seed=seed, companions=[enemy], label="receler"
        )
        return adapter.requires_grad_(False)

    def enemy(self, condition: Condition, seed: int) -> Enemy:
        """The adversary at its start."""
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
        """The adapters' loss after the adversary's steps; the adversary's last update follows it."""
        uncond, cond = frozen(backbone, state, empty), frozen(backbone, state, condition)
        starts = enemy.starts(backbone, condition)
        for remaining in reversed(range(self.inner)):
            used = enemy.write(condition, starts) if self.prompt == "intended" else condition
            with adapter.attach(backbone), adapter.traced() as added:
                student = backbone.predict(state, used)
            if self.prompt == "intended":
                recovery = backbone.distance(student, cond)
                enemy.step(recovery, keep_graph=not remaining, half=backbone.half)
            elif remaining:
                continue
        value = backbone.distance(student, negative_guidance(uncond, cond, self.scale))
        if self.localise:
            masks = self.masks(backbone, state, condition, empty, positions, added)
            outputs = [added[site] for site in masks]
            value = value + self.localise * outside(outputs, list(masks.values()), self.reduction)
        return value

    def masks(
        self,
        backbone: Backbone,
        state: State,
        condition: Condition,
        empty: Condition,
        positions: Sequence[Sequence[int]],
        added: dict[Site, Tensor],
    ) -> dict[Site, Tensor]:
        """Where the concept is, at every site."""
        tokens = {site: value.shape[1] for site, value in added.items()}
        locator = Locator(self.mask, self.threshold, self.side)
        return locator.masks(backbone, state, (condition, empty), positions, tokens)


class Enemy:
    """Vectors written into a prompt's embedding after its last word, and the Adam that moves them."""

    def __init__(self, slots: int, embeds: Tensor, lr: float, decay: float, seed: int) -> None:
        start = torch.rand(slots, embeds.shape[-1], generator=torch.Generator().manual_seed(seed))
        self.vectors = nn.Parameter(start.to(embeds.device))
        self.adam = torch.optim.Adam([self.vectors], lr=lr, weight_decay=decay)

    def starts(self, backbone: Backbone, condition: Condition) -> list[int]:
        """The position after the last word of each prompt."""
        return [len(ids) - 1 for ids in backbone.texts.tokenize(condition.prompts)]

    def write(self, condition: Condition, starts: Sequence[int]) -> Condition:
        """The condition with the vectors in it, as many as the text has room for."""
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

    def step(self, recovery: Tensor, *, keep_graph: bool, half: bool = False) -> None:
        """One step of the vectors towards a smaller distance from the frozen prediction."""
        (self.vectors.grad,) = gradients(recovery, [self.vectors], half=half, keep_graph=keep_graph)
        average_gradients([self.vectors])
        self.adam.step()

    def state_dict(self) -> dict[str, Any]:
        """Vectors and optimizer."""
        return {"vectors": self.vectors.detach(), "adam": self.adam.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """What `state_dict` returned."""
        self.vectors.data.copy_(state["vectors"])
        self.adam.load_state_dict(state["adam"])
