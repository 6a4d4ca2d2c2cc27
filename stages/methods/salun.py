"""SalUn (arXiv 2310.12508): the concept is relabelled, in those weights alone whose gradients it is seen by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from stages.backbones.core.base import Backbone
from stages.control.edits import swap_parameters
from stages.control.state import Condition, State
from stages.interventions.weights import Weights
from stages.methods.shared.base import Prompts, frozen, shown
from stages.methods.shared.data import FromPairs
from stages.methods.shared.preservation import Preservation
from stages.methods.shared.trained_weights import Train, choose
from stages.objectives import salient
from stages.params.concept import Concept
from stages.params.kept import Reads
from stages.params.types import Count, Departs, Fraction, Natural, Needs, NonNegative, Rate
from stages.seeds import Purpose, generator
from stages.training.float16 import LossScale, gradients
from stages.training.minimize import minimize
from stages.training.processes import agreed
from stages.training.settings import Adam, Training


@dataclass(frozen=True, kw_only=True)
class SalUn(FromPairs, Training):
    """prediction(concept) -> sg[prediction(another)] on the concept's pictures, + alpha x the ordinary loss on pictures
    that stay, over W + m D: m is 1 for the `share` of all weights whose gradients are largest.

    arXiv 2310.12508, sec. 4. Rows of the network: 2 x batch for each of `passes` before the training (1 x at
    mask_guidance 0), with gradients; then per step batch without and batch with gradients, and batch more with
    gradients if alpha is above 0.
    """

    DEPARTS: ClassVar[Departs] = {
        "relabel": "relabel: {relabel}",
        "anchor": "anchor: {anchor}",
        "preserve > 0": "preserve: {preserve}",
    }
    READS: ClassVar[Reads] = {"": "final", "preserve": "all"}
    NEEDS: ClassVar[Needs] = {"empty": {"preserve": True}}

    train: Train = "full"  # which weights the mask chooses among; see stages.methods.shared.trained_weights
    share: Fraction = 0.5  # of these weights that may move
    passes: Count = 100  # batches whose gradients are added up for the mask
    mask_guidance: NonNegative = 7.5  # g of (1 + g) cond - g uncond, whose error the mask's gradients are of; 0: cond
    # What the concept is relabelled as: its neutral twin (the released code's way with nudity), or any retain prompt
    # (a random other label).
    relabel: Literal["neutral", "retain"] = "neutral"
    anchor: Literal["student", "frozen"] = "student"  # whose prediction: the network's in training (the code), or not
    alpha: NonNegative = 0.5  # weight of the ordinary loss on the retain prompts' pictures; the paper's beta
    preserve: NonNegative = 0.0  # weight of the distance to the frozen network on retain prompts; the paper has none
    empty: Natural = 0  # how many of these the empty prompt counts as, from which guidance starts
    batch: Count = 8
    steps: Count = 600
    lr: Rate = 1e-5
    optimizer: Adam = "adam"

    def fit(self, backbone: Backbone, concept: Concept, *, seed: int) -> Weights:
        """The trained weights; ValueError for weights that the backbone has not, a share of which nothing is left, or
        fields that contradict each other."""
        concept = self.learned(concept)
        names = choose(backbone, self.train)
        many = sum(backbone.addresses.parameter(name).numel() for name in names)
        if not int(many * self.share):
            raise ValueError(f"share: {self.share} of {many} weights leaves none to train")
        backbone.gather(concept.prompts, seed, "final")
        prompts = Prompts.of(backbone, concept.prompts)
        twins = Prompts.of(backbone, [neutral for _, neutral in concept.pairs()])
        others = Prompts.of(backbone, concept.retain)
        if self.alpha:
            backbone.gather(concept.retain, seed, "final")
        preservation = Preservation.of(backbone, concept, self.preserve, self.empty, seed)
        masks = Masks(agreed(self.mask(backbone, names, prompts, seed)))  # sums on a GPU differ from run to run
        weights = Masked(backbone, masks)

        def loss(step: int, draws: torch.Generator) -> Tensor:
            rows = prompts.indices(self.batch, draws)
            asked = prompts.condition.rows(rows)
            label = twins.condition.rows(rows) if self.relabel == "neutral" else others.draw(self.batch, draws)
            state, _ = shown(backbone, asked, draws)
            value = self.relabelling(backbone, weights, state, asked, label)
            if self.alpha:
                value = value + self.alpha * self.staying(backbone, weights, others.draw(self.batch, draws), draws)
            return value + preservation(weights, self.batch, draws)

        scale = LossScale(backbone.through_float16)
        minimize(loss, weights.parameters(), self, seed=seed, label="salun", companions=[scale, masks])
        return weights.fixed()

    def mask(self, backbone: Backbone, names: Sequence[str], prompts: Prompts, seed: int) -> dict[str, Tensor]:
        """By name of a weight, where it may move; ValueError if that is nowhere.

        From the sum of the gradients of the denoising error on the concept's own pictures, as the network is.
        """
        weights = Weights.copy(backbone, names)
        sums = [torch.zeros_like(value) for value in weights.parameters()]
        for i in range(self.passes):
            draws = generator(Purpose.MASK, seed, i)
            asked = prompts.draw(self.batch, draws)
            state, target = shown(backbone, asked, draws)
            with weights.attach(backbone):
                prediction = backbone.guider(asked, 1 + self.mask_guidance)(state)
                value = backbone.distance(prediction, target)
            found = gradients(value, list(weights.parameters()), through_float16=backbone.through_float16, unread=True)
            torch._foreach_add_(sums, list(found))
        masks = salient(sums, self.share)
        if not any(mask.any() for mask in masks):
            raise ValueError(f"train: {self.train}: no weight has a gradient on the concept's pictures")
        return dict(zip(names, masks, strict=True))

    def relabelling(
        self, backbone: Backbone, weights: Masked, state: State, asked: Condition, label: Condition
    ) -> Tensor:
        """The distance, a scalar, of the student's prediction for the concept to that for its label, which is fixed."""
        if self.anchor == "frozen":
            target = frozen(backbone, state, label)
        with weights.attach(backbone):
            if self.anchor == "student":
                target = frozen(backbone, state, label)
            return backbone.distance(backbone.predict(state, asked), target)

    def staying(self, backbone: Backbone, weights: Masked, asked: Condition, draws: torch.Generator) -> Tensor:
        """The ordinary training loss, a scalar, on gathered pictures of prompts that stay."""
        state, target = shown(backbone, asked, draws)
        with weights.attach(backbone):
            return backbone.distance(backbone.predict(state, asked), target)


class Masks(dict[str, Tensor]):
    """By name of a weight, where it may move; kept with a training's checkpoint, so that it goes on with the same."""

    def state_dict(self) -> dict[str, Tensor]:
        """The masks by name."""
        return dict(self)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Takes over masks of the same names, in place."""
        for name, mask in self.items():
            mask.copy_(state[name])


class Masked(nn.Module):
    """Weights W + m D: changes D, float32 and 0 at first, that act where the masks m are true and nowhere else."""

    def __init__(self, backbone: Backbone, masks: Mapping[str, Tensor]) -> None:
        super().__init__()
        copies = Weights.copy(backbone, masks)
        self.own = {name: value.detach() for name, value in copies.items()}
        self.masks = masks
        self.changes = nn.ParameterList(nn.Parameter(torch.zeros_like(value)) for value in self.own.values())

    def values(self) -> dict[str, Tensor]:
        """The weights as they are now, float32, by name; gradients reach the changes."""
        return {
            name: own + change * self.masks[name]
            for (name, own), change in zip(self.own.items(), self.changes, strict=True)
        }

    @contextmanager
    def attach(self, backbone: Backbone) -> Iterator[None]:
        """Swaps the weights in, in the backbone's own precision."""
        own = backbone.addresses
        with swap_parameters(
            backbone,
            {name: value.to(backbone.device, own.parameter(name).dtype) for name, value in self.values().items()},
        ):
            yield

    def fixed(self) -> Weights:
        """The weights with nothing to train, as they are saved."""
        return Weights({name: value.detach() for name, value in self.values().items()})
