"""T2VUnlearning (arXiv 2505.17550): adapters on the image or video stream, localised to where the concept is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from stages.backbones.core.base import Backbone
from stages.backbones.core.capabilities import Diffuses, needs
from stages.control.state import Condition, State
from stages.interventions.adapter import Adapter
from stages.methods.shared.base import Prompts, frozen, noised
from stages.methods.shared.localised import Localised
from stages.methods.shared.preservation import Preservation
from stages.objectives import negative_guidance
from stages.params.concept import Concept
from stages.params.kept import Reads
from stages.params.types import Count, Departs, Natural, Needs, NonNegative, Rate
from stages.reading.concept_masks import concept_tokens
from stages.training.float16 import LossScale
from stages.training.minimize import minimize
from stages.training.settings import Training


@dataclass(frozen=True, kw_only=True)
class T2VUnlearning(Localised, Training):
    """prediction(concept) -> uncond - scale (cond - uncond), + localise x what adapters add outside the concept's mask,
    + preserve x the distance to the frozen network on prompts to keep. arXiv 2505.17550.

    The paper's adapters stand after each attention that reads text.
    """

    DEPARTS: ClassVar[Departs] = {
        "localise > 0": "localise: {localise}",
        "preserve > 0": "preserve: {preserve}",
        "templates": "templates: {templates}",
    }
    READS: ClassVar[Reads] = {"states": {"noised": "final", "trajectory": "all"}, "preserve": "all"}
    NEEDS: ClassVar[Needs] = {"empty": {"preserve": True}}

    scale: NonNegative = 7.0  # how far from the concept
    preserve: NonNegative = 0.0  # weight of the distance to the frozen network on retain prompts
    empty: Natural = 0  # how many of these the empty prompt counts as, from which guidance starts
    states: Literal["noised", "trajectory"] = "noised"  # noised frozen samples, or states of their runs
    space: Literal["prediction", "clean"] = "prediction"  # errors of predictions, or of the final latents they imply
    batch: Count = 1
    steps: Count = 500
    lr: Rate = 1e-4

    def fit(self, backbone: Backbone, concept: Concept, *, seed: int) -> Adapter:
        """The trained adapters; ValueError for fields that contradict each other or that the backbone cannot serve,
        FileNotFoundError without the data."""
        concept = self.learned(concept)
        positions = concept_tokens(backbone, concept.prompts, (*concept.called(), *concept.synonyms))
        backbone.gather(concept.prompts, seed, "final" if self.states == "noised" else "all")
        prompts, empty = Prompts.of(backbone, concept.prompts), backbone.encode([""]).repeat(self.batch)
        preservation = Preservation.of(backbone, concept, self.preserve, self.empty, seed)
        adapter = self.adapter(backbone, seed)

        def loss(step: int, generator: torch.Generator) -> Tensor:
            rows = prompts.indices(self.batch, generator)
            condition = prompts.condition.rows(rows)
            state = self._state(backbone, condition, generator)
            value = self.unlearning(backbone, adapter, state, condition, empty, [positions[i] for i in rows])
            return value + preservation(adapter, self.batch, generator)

        scale = LossScale(backbone.through_float16)
        minimize(loss, adapter.parameters(), self, seed=seed, label="t2vunlearning", companions=[scale])
        return adapter.requires_grad_(False)

    def unlearning(
        self,
        backbone: Backbone,
        adapter: Adapter,
        state: State,
        condition: Condition,
        empty: Condition,
        positions: Sequence[Sequence[int]],
    ) -> Tensor:
        """Unlearning and localisation at one state, a scalar; `positions` are those of the concept's tokens."""
        uncond, cond = frozen(backbone, state, empty), frozen(backbone, state, condition)
        with adapter.attach(backbone), adapter.traced() as added:
            student = backbone.predict(state, condition)
        value = self.distance(backbone, state, student, negative_guidance(uncond, cond, self.scale))
        if self.localise:
            value = value + self.elsewhere(added, self.masks(backbone, state, condition, empty, positions, added))
        return value

    def distance(self, backbone: Backbone, state: State, prediction: Tensor, target: Tensor) -> Tensor:
        """The family's distance, a scalar, of predictions of one shape, or of the final latents that they imply.

        ValueError for `space: clean` if they imply none.
        """
        if self.space == "prediction":
            return backbone.distance(prediction, target)
        process = needs(backbone, Diffuses, "choose space: prediction").process
        return backbone.distance(*(process.clean(state.latent, value, state.time) for value in (prediction, target)))

    def _state(self, backbone: Backbone, condition: Condition, generator: torch.Generator) -> State:
        if self.states == "trajectory":
            return backbone.draw(condition, generator)
        return noised(backbone, condition, generator)[0]
