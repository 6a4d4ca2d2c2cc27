"""Concept Ablation (arXiv 2303.13516): the concept's prediction becomes that of an anchor, the prompt without it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from stages.backbones.core.base import Backbone
from stages.backbones.core.capabilities import Diffuses, Learns, needs
from stages.control.state import Condition, State
from stages.interventions.weights import Weights
from stages.methods.shared.anchor_pictures import AnchorPictures, encoded, only_inside, said
from stages.methods.shared.base import Prompts, frozen, noised
from stages.methods.shared.data import FromPairs
from stages.methods.shared.preservation import Preservation
from stages.methods.shared.trained_weights import Train, choose
from stages.objectives import negative_guidance
from stages.params.concept import Concept
from stages.params.kept import Reads
from stages.params.pairs import of_concept
from stages.params.types import Count, Natural, Needs, NonNegative, Pictures, Rate, Refuses
from stages.training.float16 import LossScale
from stages.training.minimize import Loss, minimize
from stages.training.settings import Training


@dataclass(frozen=True, kw_only=True)
class ConceptAblation(FromPairs, Training):
    """prediction(concept) -> sg[prediction(anchor)], the anchor being the neutral prompt; arXiv 2303.13516.

    Trains copies of some weights.
    """

    READS: ClassVar[Reads] = {"states": {"noised": "final", "trajectory": "all"}, "preserve": "all"}
    NEEDS: ClassVar[Needs] = {
        "anchor": {"target": ("model",)},
        "empty": {"preserve": True},
        "pictures": {"states": ("pictures",), "images": False},
        "images": {"states": ("pictures",)},
        "augment": {"states": ("pictures",)},
    }
    REFUSES: ClassVar[Refuses] = {
        "states == 'trajectory' and (target == 'noise' or prior)": (
            "the noise is not known for states: trajectory; choose target: model and prior: 0"
        )
    }

    train: Train = "cross-attn"  # which weights; see stages.methods.shared.trained_weights
    target: Literal["model", "noise"] = "model"  # the prediction for the anchor, or the noise itself
    anchor: Literal["student", "frozen"] = "student"  # whose prediction: the network's in training (the paper), or not
    # Anchor pictures at random times, as the frozen network draws them (`pictures`, the paper) or as it gathered them
    # (`noised`), or states of its runs.
    states: Literal["pictures", "noised", "trajectory"] = "noised"
    pictures: Count = 5  # drawn of each anchor
    images: Pictures = ""  # or a folder of anchor pictures, one for each row of the data
    augment: bool = True  # pictures are mirrored, shrunk and enlarged, and prompts say so
    prior: NonNegative = 1.0  # weight of the ordinary denoising loss on anchor pictures
    preserve: NonNegative = 0.0  # weight of the distance to the frozen network on retain prompts; the paper has none
    empty: Natural = 0  # how many of these the empty prompt counts as, from which guidance starts
    # Neutral prompts sometimes show the concept; an erasure that merely matches them cannot do better. This aims beyond
    # the anchor's prediction, away from the concept's; the paper does not.
    push: NonNegative = 0.0
    first_token: bool = True  # off: no gradient through the first token's keys and values, as in the released code
    batch: Count = 4
    steps: Count = 100
    lr: Rate = 2e-6
    weight_decay: NonNegative = 1e-2
    clip: Rate | None = 1.0

    def fit(self, backbone: Backbone, concept: Concept, *, seed: int) -> Weights:
        """The trained weights; ValueError for fields that contradict each other or that the backbone cannot serve."""
        concept = self.learned(concept)
        if not self.first_token:
            text_projections(backbone)  # refused here, before anything is drawn
        weights = Weights.copy(backbone, choose(backbone, self.train))
        preservation = Preservation.of(backbone, concept, self.preserve, self.empty, seed)
        terms = (self.on_pictures if self.states == "pictures" else self.on_samples)(backbone, concept, weights, seed)

        def loss(step: int, generator: torch.Generator) -> Tensor:
            return terms(step, generator) + preservation(weights, self.batch, generator)

        scale = LossScale(backbone.through_float16)
        minimize(loss, weights.parameters(), self, seed=seed, label="concept_ablation", companions=[scale])
        return weights

    def on_samples(self, backbone: Backbone, concept: Concept, weights: Weights, seed: int) -> Loss:
        """Ablation and prior on what the frozen network gathered of the anchors."""
        backbone.gather(concept.neutral, seed, "final" if self.states == "noised" else "all")
        concepts, anchors = (Prompts.of(backbone, side) for side in zip(*concept.pairs(), strict=True))

        def loss(step: int, generator: torch.Generator) -> Tensor:
            rows = concepts.indices(self.batch, generator)
            anchor = anchors.condition.rows(rows)
            state, noise = self._state(backbone, anchor, generator)
            erased = concepts.condition.rows(rows)
            target = self.aim(backbone, weights, state, erased, anchor, noise)
            value = backbone.distance(self.student(backbone, weights, state, erased), target)
            if self.prior:
                value = value + self.prior * self._prior(backbone, weights, anchors, generator)
            return value

        return loss

    def on_pictures(self, backbone: Backbone, concept: Concept, weights: Weights, seed: int) -> Loss:
        """Ablation and prior on pictures of the anchors; the prior's are as they were drawn.

        ValueError for a backbone that has no forward process or cannot learn from pictures, or a folder without one for
        each row.
        """
        needs(backbone, Diffuses, "choose states: trajectory")
        learner = needs(backbone, Learns, "choose states: trajectory")
        pairs = concept.pairs()
        if self.images:
            folder = of_concept(self.images, concept.name)
            pictures = AnchorPictures.read(folder, learner.picture_size(), len(pairs))
        else:
            pictures = AnchorPictures.drawn(backbone, [anchor for _, anchor in pairs], self.pictures, seed)
        concepts = encoded(backbone, [prompt for prompt, _ in pairs])
        anchors = Prompts.of(backbone, [anchor for _, anchor in pairs])

        def loss(step: int, generator: torch.Generator) -> Tensor:
            batch = pictures.batch(self.batch, generator, augment=self.augment)
            state, noise = learner.examples(batch.pictures.to(backbone.device), generator)
            erased, anchor = said(concepts, batch), anchors.condition.rows(batch.rows)
            target = self.aim(backbone, weights, state, erased, anchor, noise)
            student = self.student(backbone, weights, state, erased)
            value = backbone.distance(only_inside(student, target, batch.inside), target)
            if self.prior:
                plain = pictures.batch(self.batch, generator, augment=False)
                state, noise = learner.examples(plain.pictures.to(backbone.device), generator)
                student = self.student(backbone, weights, state, anchors.condition.rows(plain.rows))
                value = value + self.prior * backbone.distance(student, noise)
            return value

        return loss

    def aim(
        self,
        backbone: Backbone,
        weights: Weights,
        state: State,
        erased: Condition,
        anchor: Condition,
        noise: Tensor | None,
    ) -> Tensor:
        """What the prediction for the concept is to become, of the latent's shape.

        `noise` has that shape and is needed for `target: noise` alone.
        """
        if self.target == "noise":
            if noise is None:
                raise ValueError("target: noise needs the noise that was added to the state")
            target = noise
        elif self.anchor == "frozen":
            target = frozen(backbone, state, anchor)
        else:
            with weights.attach(backbone):
                target = frozen(backbone, state, anchor)
        return negative_guidance(target, frozen(backbone, state, erased), self.push) if self.push else target

    def student(self, backbone: Backbone, weights: Weights, state: State, condition: Condition) -> Tensor:
        """The prediction with the trained weights, of the latent's shape, with gradients."""
        with weights.attach(backbone):
            if self.first_token:
                return backbone.predict(state, condition)
            with first_token_cut(backbone):
                return backbone.predict(state, condition)

    def _state(self, backbone: Backbone, anchor: Condition, generator: torch.Generator) -> tuple[State, Tensor | None]:
        if self.states == "trajectory":
            return backbone.draw(anchor, generator), None
        return noised(backbone, anchor, generator)

    def _prior(self, backbone: Backbone, weights: Weights, anchors: Prompts, generator: torch.Generator) -> Tensor:
        condition = anchors.draw(self.batch, generator)
        state, noise = noised(backbone, condition, generator)
        return backbone.distance(self.student(backbone, weights, state, condition), noise)


def text_projections(backbone: Backbone) -> list[str]:
    """The layers that make keys and values of the text alone; ValueError for a network without cross-attention."""
    try:
        names = backbone.weights("cross_attn", projections=("key", "value"))
    except KeyError:
        raise ValueError(f"first_token: false: {backbone.name} has no cross-attention; leave first_token on") from None
    return sorted({name.rpartition(".")[0] for name in names})


@contextmanager
def first_token_cut(backbone: Backbone) -> Iterator[None]:
    """Stops the gradient into the keys and values of the text's first token; no value changes."""

    def cut(_module: object, _args: object, output: Tensor) -> Tensor:
        return torch.cat([output[:, :1].detach(), output[:, 1:]], dim=1)

    hooks = [backbone.net.get_submodule(path).register_forward_hook(cut) for path in text_projections(backbone)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
