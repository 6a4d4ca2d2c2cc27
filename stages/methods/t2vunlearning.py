"""T2VUnlearning (arXiv 2505.17550): adapters on the image or video stream, localised to where the concept is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from stages.backbones.core.base import Backbone
from stages.backbones.core.capabilities import Diffuses, needs
from stages.control.sites import Site
from stages.control.state import Condition, State
from stages.interventions.adapter import Adapter
from stages.methods.shared.base import Prompts, frozen, noised, preservation, retained
from stages.objectives import Reduction, negative_guidance, outside
from stages.params.concept import Concept
from stages.params.datasets import read_pairs
from stages.params.types import Count, File, Fraction, Natural, NonNegative, Rate
from stages.reading.concept_masks import How, Locator, concept_tokens
from stages.training.minimize import Schedule, minimize


@dataclass
class T2VUnlearning:
    """Adapters learn uncond - scale (cond - uncond) for the concept, and to add nothing where it is not.

    `localise` (alpha) weighs what they add outside the concept's mask, by `reduction` the `mean` there or the `sum`
    that papers print; `preserve` (beta) the distance to the frozen network on the retain prompts, of which the empty
    prompt, where guidance starts, counts as `empty`. `states`: frozen generations noised at one random time (`noised`),
    or steps of their trajectories. `space`: errors of predictions, or of the final latents that they imply (`clean`,
    the released code). `pairs` is a CSV of prompts with the concept and without, used in place of the concept's own,
    the first `limit` of them; `templates` such as `a video of {}` are put around every prompt and trained on too.
    `words` name the concept's tokens for the mask; without, they are what a prompt's neutral twin does not have.
    Adapters stand where `kinds` says: after each attention that reads text, or after self-attention where none does;
    `block`, where text also comes in by other ways. A step takes the mean gradient of `accumulate` batches, one after
    another.
    """

    rank: Count = 128
    kinds: tuple[str, ...] = ("cross_attn", "attn")
    scale: NonNegative = 7.0
    localise: NonNegative = 1.0
    reduction: Reduction = "mean"
    preserve: NonNegative = 0.0
    empty: Natural = 0
    mask: How = "auto"
    side: int | None = None
    threshold: Fraction = 0.1
    words: tuple[str, ...] = ()
    states: Literal["noised", "trajectory"] = "noised"
    space: Literal["prediction", "clean"] = "prediction"
    pairs: File = ""
    limit: Natural = 0
    templates: tuple[str, ...] = ()
    steps: Count = 500
    lr: Rate = 1e-4
    batch: Count = 1
    accumulate: Count = 1
    schedule: Schedule = "constant"
    warmup: Natural = 0

    def fit(self, backbone: Backbone, concept: Concept, *, seed: int) -> Adapter:
        """Trains fresh adapters at every site of the first of `kinds` that the network has."""
        shown, neutral = zip(*self.prompts(concept), strict=True)
        positions = concept_tokens(backbone, shown, neutral, self.words)
        backbone.gather(shown, seed)
        prompts, empty = Prompts.of(backbone, shown), backbone.encode([""]).repeat(self.batch)
        kept = retained(concept, self.preserve, self.empty)
        if self.preserve:
            backbone.gather(kept, seed)
            retain = Prompts.of(backbone, kept)
        adapter = Adapter.fresh(backbone, backbone.select(*self.kinds, stream="image"), self.rank, seed)

        def loss(step: int, generator: torch.Generator) -> Tensor:
            rows = prompts.indices(self.batch, generator)
            condition = prompts.condition.rows(rows)
            state = self._state(backbone, condition, generator)
            value = self.unlearning(backbone, adapter, state, condition, empty, [positions[i] for i in rows])
            if self.preserve:
                value = value + self.preserve * preservation(backbone, adapter, retain, self.batch, generator)
            return value

        settings = {"steps": self.steps, "lr": self.lr, "schedule": self.schedule, "warmup": self.warmup}
        settings |= {"accumulate": self.accumulate, "half": backbone.half}
        minimize(loss, adapter.parameters(), **settings, seed=seed, label="t2vunlearning")
        return adapter.requires_grad_(False)

    def prompts(self, concept: Concept) -> list[tuple[str, str]]:
        """Pairs of prompts with the concept and without, and each template around them."""
        pairs = read_pairs(Path(self.pairs)) if self.pairs else concept.pairs()
        pairs = pairs[: self.limit or None]
        wrong = [template for template in self.templates if "{}" not in template]
        if wrong:
            raise ValueError(f"a template needs {{}} where the prompt goes, got {wrong[0]!r}")
        around = [tuple(t.replace("{}", p) for p in pair) for t in self.templates for pair in pairs]
        return [*pairs, *around]

    def unlearning(
        self,
        backbone: Backbone,
        adapter: Adapter,
        state: State,
        condition: Condition,
        empty: Condition,
        positions: Sequence[Sequence[int]],
    ) -> Tensor:
        """Unlearning and localisation at one state."""
        uncond, cond = frozen(backbone, state, empty), frozen(backbone, state, condition)
        with adapter.attach(backbone), adapter.traced() as added:
            student = backbone.predict(state, condition)
        value = self.distance(backbone, state, student, negative_guidance(uncond, cond, self.scale))
        if self.localise:
            masks = self.masks(backbone, state, condition, empty, positions, added)
            outputs = [added[site] for site in masks]
            value = value + self.localise * outside(outputs, list(masks.values()), self.reduction)
        return value

    def distance(self, backbone: Backbone, state: State, prediction: Tensor, target: Tensor) -> Tensor:
        """The family's distance of predictions, or of the final latents that they imply."""
        if self.space == "prediction":
            return backbone.distance(prediction, target)
        process = needs(backbone, Diffuses, "choose space: prediction").process
        return backbone.distance(*(process.clean(state.latent, value, state.time) for value in (prediction, target)))

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

    def _state(self, backbone: Backbone, condition: Condition, generator: torch.Generator) -> State:
        if self.states == "trajectory":
            return backbone.draw(condition, generator)
        return noised(backbone, condition, generator)[0]
