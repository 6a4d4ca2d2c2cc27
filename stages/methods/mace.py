"""MACE (arXiv 2403.06135): closed-form refinement, one LoRA per concept, and their closed-form fusion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from stages.backbones.core.base import Backbone
from stages.backbones.core.capabilities import Diffuses, needs
from stages.control.edits import swap_parameters
from stages.control.mentions import mentions
from stages.control.state import Condition, State
from stages.interventions.weights import Weights
from stages.methods.shared.base import Prompts
from stages.methods.shared.data import FromPairs
from stages.methods.shared.text_inputs import text_inputs
from stages.methods.uce import Rows, gather_rows
from stages.objectives import edited_weight, squared_inside
from stages.params.concept import Concept
from stages.params.kept import Reads
from stages.params.types import Count, Fraction, Needs, NonNegative, Rate
from stages.reading.attention import attention_maps
from stages.reading.concept_masks import How, Locator, concept_tokens
from stages.seeds import Purpose, generator
from stages.training.float16 import LossScale
from stages.training.minimize import minimize
from stages.training.settings import Training

Kept = Sequence[tuple[Tensor, float]]  # rows (n, d) whose values stay, and their weight


@dataclass(frozen=True, kw_only=True)
class MACE(FromPairs, Training):
    """Three stages: the words around the concept forget it (closed form), a LoRA per concept lowers the attention to
    its words where it is seen, and all LoRAs become one change (closed form). arXiv 2403.06135.

    A concept's `members` are one LoRA each. The paper finds the concept in pictures by a segmentation model; here the
    network's own attention, with nothing attached, finds it.
    """

    READS: ClassVar[Reads] = {"": "final"}
    NEEDS: ClassVar[Needs] = {"threshold": {"mask": ("auto", "attention", "difference")}}

    ridge: NonNegative = 0.1  # holds the weights in the refinement; the paper's lambda_1
    fuse_ridge: NonNegative = 0.1  # the same in the fusion; lambda_2
    preserve: NonNegative = 1e-3  # weight of the retain prompts' tokens in the refinement
    fuse_preserve: NonNegative = 1e-3  # the same in the fusion
    rank: Count = 1  # of a LoRA
    mask: How = "auto"  # what the place of the concept is read from
    threshold: Fraction = 0.4  # from which share of a map's range on a token is inside
    # Times are drawn near those at which concepts take shape, as shares of the noisiest: between these two, with edges
    # of this sharpness.
    focus: tuple[Fraction, Fraction] = (0.2, 0.4)
    sharpness: Rate = 50.0
    batch: Count = 1
    steps: Count = 50  # for each concept
    lr: Rate = 1e-5

    def fit(self, backbone: Backbone, concept: Concept, *, seed: int) -> Weights:
        """The new values of all weights that read text; ValueError for a backbone that reads none, that has no forward
        process, or whose attention cannot be read."""
        concept = self.learned(concept)
        names = backbone.addresses.readers()
        needs(backbone, Diffuses, "MACE trains on noised pictures; choose uce or speed")
        original = {name: backbone.addresses.parameter(name).detach().double() for name in names}
        edits, kept = gather_rows(backbone, names, concept, "around")
        refine = {name: [(rows, self.preserve) for rows in kept[name]] for name in names}
        refined = {name: refine_weight(original[name], edits[name], refine[name], self.ridge) for name in names}
        taught: dict[str, list[Rows]] = {name: [] for name in names}
        for i, member in enumerate(apart(concept)):
            weights = self.teach(backbone, member, refined, seed, i)
            read = text_inputs(backbone, names, member.prompts)
            for name in names:
                rows = torch.cat([row.reshape(-1, row.shape[-1]) for row in read[name]])
                taught[name].append((rows, weights[name]))
        hold = {name: [(rows, self.fuse_preserve) for rows in kept[name]] for name in names}
        values = {
            name: fuse_weights(refined[name], taught[name], original[name], hold[name], self.fuse_ridge)
            for name in names
        }
        return Weights({name: value.float().contiguous() for name, value in values.items()})

    def teach(
        self, backbone: Backbone, concept: Concept, refined: Mapping[str, Tensor], seed: int, index: int
    ) -> dict[str, Tensor]:
        """The weights (d_out, d_in), float64, with the LoRA of one concept, the `index`-th."""
        backbone.gather(concept.prompts, seed, "final")
        prompts, empty = Prompts.of(backbone, concept.prompts), backbone.encode([""]).repeat(self.batch)
        positions = concept_tokens(backbone, concept.prompts, (*concept.called(), *concept.synonyms))
        if not all(positions):
            raise ValueError(f"MACE looks for the words of {concept.name} in all of its prompts; name them in `words`")
        factors = Factors(refined, self.rank, generator(Purpose.WEIGHTS, seed, index)).to(backbone.device)

        def loss(step: int, draws: torch.Generator) -> Tensor:
            rows = prompts.indices(self.batch, draws)
            condition, places = prompts.condition.rows(rows), [positions[i] for i in rows]
            return self.attention(backbone, factors, self.state(backbone, condition, draws), condition, empty, places)

        companions = [LossScale(backbone.through_float16)]
        label = f"mace {index}"
        minimize(loss, factors.parameters(), self, seed=seed, label=label, companions=companions)
        return {name: value.detach().double() for name, value in factors.weights(refined).items()}

    def attention(
        self,
        backbone: Backbone,
        factors: Factors,
        state: State,
        condition: Condition,
        empty: Condition,
        positions: Sequence[Sequence[int]],
    ) -> Tensor:
        """The squared attention, a scalar, to the concept's tokens where the network with nothing attached sees it."""
        _, plain = attention_maps(backbone, state, condition, positions)
        tokens = {site: value.shape[1] for site, value in plain.items()}
        masks = Locator(self.mask, self.threshold).masks(backbone, state, (condition, empty), positions, tokens)
        with factors.attach(backbone):
            _, maps = attention_maps(backbone, state, condition, positions, gradients=True)
        return squared_inside([maps[site] for site in masks], list(masks.values()))

    def state(self, backbone: Backbone, condition: Condition, draws: torch.Generator) -> State:
        """The frozen network's samples, noised to times that are drawn near `focus`."""
        diffuses = needs(backbone, Diffuses, "MACE trains on noised pictures")
        process, clean = diffuses.process, diffuses.finals(condition, draws)
        steps = process.scheduler.config.num_train_timesteps
        shares = torch.arange(steps) / steps
        early, late = ((self.sharpness * (shares - edge)).sigmoid() for edge in self.focus)
        times = torch.multinomial((early - late).clamp_min(1e-12), len(clean), replacement=True, generator=draws)
        noise = torch.randn(clean.shape, generator=draws).to(clean)
        times = times.to(clean.device)
        return State(process.noised(clean, noise, times), times, 0, final=clean)


class Factors(nn.Module):
    """Low-rank changes B A of some weights, float32; B is 0 at first, so that nothing changes yet."""

    def __init__(self, weights: Mapping[str, Tensor], rank: int, draws: torch.Generator) -> None:
        super().__init__()
        self.base = dict(weights)
        shapes = [value.shape for value in weights.values()]
        self.down = nn.ParameterList(torch.randn(rank, inner, generator=draws) / rank for _, inner in shapes)
        self.up = nn.ParameterList(torch.zeros(outer, rank) for outer, _ in shapes)

    def weights(self, base: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weights (d_out, d_in) with their changes; gradients reach the factors."""
        factors = zip(base.items(), self.down, self.up, strict=True)
        return {name: value + (up @ down).to(value) for (name, value), down, up in factors}

    def attach(self, backbone: Backbone) -> AbstractContextManager[None]:
        """Puts the changed weights in, in the backbone's own dtype."""
        own = {name: backbone.addresses.parameter(name) for name in self.base}
        return swap_parameters(backbone, {name: value.to(own[name]) for name, value in self.weights(self.base).items()})


def refine_weight(weight: Tensor, edits: Sequence[Rows], kept: Kept, ridge: float) -> Tensor:
    """(ridge W + sum W g c^T + sum q W p p^T)(ridge I + sum c c^T + sum q p p^T)^-1, (d_out, d_in) in float64.

    Rows c of prompts with the concept get the values of their twins' rows g; rows p keep theirs, with weight q. arXiv
    2403.06135, closed-form refinement.
    """
    weight = weight.double()
    return _solved(weight, [(c, g.double() @ weight.T) for c, g in edits], weight, kept, ridge)


def fuse_weights(weight: Tensor, taught: Sequence[Rows], original: Tensor, kept: Kept, ridge: float) -> Tensor:
    """(ridge W + sum_i W_i c c^T + sum q W0 p p^T)(ridge I + sum c c^T + sum q p p^T)^-1, (d_out, d_in) in float64.

    `taught` has for each concept rows c (n, d_in) and its own weight W_i, whose values they get; rows p keep those of
    the original weight W0, with weight q. arXiv 2403.06135, fusion of multiple LoRAs.
    """
    pairs = [(rows, rows.double() @ own.double().T) for rows, own in taught]
    return _solved(weight, pairs, original, kept, ridge)


def _solved(weight: Tensor, pairs: Sequence[Rows], original: Tensor, kept: Kept, ridge: float) -> Tensor:
    """The weight that maps first rows to second ones, near `weight`, while kept rows keep the original's values."""
    keys, values, scales = [], [], []
    for rows, given in pairs:
        keys.append(rows.double())
        values.append(given)
        scales.append(torch.ones(len(rows), dtype=torch.float64))
    for rows, share in kept:
        if share:
            keys.append(rows.double())
            values.append(rows.double() @ original.double().T)
            scales.append(torch.full((len(rows),), share, dtype=torch.float64))
    return edited_weight(weight, torch.cat(keys), torch.cat(values), torch.cat(scales).to(weight.device), ridge)


def apart(concept: Concept) -> list[Concept]:
    """A concept per member, with the prompts that name it; the concept itself if it has no members."""
    pairs = {name: [pair for pair in concept.pairs() if mentions(pair[0], [name])] for name in concept.members}
    return [
        replace(concept, name=name, prompts=tuple(a for a, _ in own), neutral=tuple(b for _, b in own), members=(name,))
        for name, own in pairs.items()
    ] or [concept]
