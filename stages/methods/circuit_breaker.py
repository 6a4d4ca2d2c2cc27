"""Circuit breakers (arXiv 2406.04313): representations of the concept are turned away from what they were."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from stages.backbones.core.base import Backbone, Condition, State
from stages.control.sites import Site
from stages.documented.breaker_data import BreakerData, read_breaker_data
from stages.interventions.lowrank import LowRank, linear_layers
from stages.methods.shared.base import Prompts
from stages.methods.shared.classes import activations
from stages.objectives.rerouting import Norm, centred, coefficients, scale_means, token_cosine, token_distance
from stages.params.concept import Concept
from stages.params.kept import Reads
from stages.params.pairs import of_concept
from stages.params.types import Breaker, Count, Fraction, Natural, NonNegative, Rate
from stages.reading.activations import Activations, keep_activations
from stages.seeds import Purpose, generator
from stages.store.record import Record
from stages.store.tracking import follow
from stages.training.float16 import LossScale
from stages.training.minimize import minimize
from stages.training.progress import Companion
from stages.training.settings import Training

log = logging.getLogger(__name__)
Measure = Callable[[Tensor, Tensor], Tensor]  # two states (B, L, D) to a value per token (B, L)
Cosines = dict[str, dict[str, dict[int, float]]]  # breaker or retain -> layer -> scale (or step) -> mean cosine

ROWS = 8  # watched at a time
HORIZONS = {"2T": lambda steps: 2 * steps, "T+1": lambda steps: steps + 1, "T": lambda steps: steps}


@dataclass(frozen=True, kw_only=True)
class CircuitBreaker(Training):
    """alpha (1 - p) mean ReLU(cos) on the concept + alpha p mean ||difference|| on what stays, p = step / horizon, of
    hidden states before and after, per token and layer, all scales alike. arXiv 2406.04313, Algorithm 1.

    Trains LoRA.
    """

    batch: Count = 16
    READS: ClassVar[Reads] = {"": "all"}

    alpha: Rate = 10.0  # weight of both losses
    horizon: Literal["2T", "T+1", "T"] = "2T"  # of T steps
    target_layers: tuple[Natural, ...] = ()  # blocks, from 0, that are read; empty: those at the paper's depths
    transform_layers: tuple[int, ...] = (-1,)  # blocks that carry LoRA; -1: all up to the last target
    rank: Count = 16  # of the LoRA
    lora_alpha: Rate = 16.0  # the LoRA counts lora_alpha / rank times
    start: NonNegative = 1e-3  # spread of B: at 0 both losses have no gradient and training stands still
    norm: Norm = "plain"  # of the difference; `root` divides by sqrt(width), `relative` by the state's own norm
    centre: bool = False  # cosines of states without the mean state of the retain prompts
    reroute: Literal["away", "neutral"] = "away"  # `neutral` pulls the concept's states to those of its twin instead
    divergence: NonNegative = 0.0  # weight of the distance of predictions that stay: KL of bit margins, MSE elsewhere
    uncond_share: Fraction = 0.25  # of rows that stay: no prompt, since guidance multiplies any drift there
    response_only: Fraction = 0.0  # of concept rows: no prompt, so that the picture alone has to trigger the breaker
    data: Breaker = ""  # JSON or CSV of prompts, `{concept}` being the concept's name; empty: the concept's own
    log_every: Count = 10  # steps between cosines in the log and the record
    watched: Natural = 12  # batches that the record's last cosines are averaged over
    steps: Count = 150
    lr: Rate = 1e-4
    clip: Rate | None = 1.0

    def fit(self, backbone: Backbone, concept: Concept, *, seed: int) -> LowRank:
        """The LoRA, trained on frozen trajectories; ValueError for blocks that the backbone or twins that the data
        lacks."""
        data = read_breaker_data(of_concept(self.data, concept.name)) if self.data else BreakerData.of(concept)
        if self.reroute == "neutral" and not data.twins:
            raise ValueError("reroute: neutral needs a harmless twin of every prompt, and the data has none")
        run = Rerouting(self, backbone, data, seed)
        with run.lora.injected(backbone):
            companions: list[Companion] = [run, LossScale(backbone.through_float16)]
            minimize(run.loss, run.lora.parameters(), self, seed=seed, label="circuit_breaker", companions=companions)
            prompts = {"breaker": len(run.unseen.condition), "retain": len(run.held_out.condition)}
            Record.note(cosines=run.watch(self.watched), watched=run.history, watched_prompts=prompts)
        return run.lora.folded()

    def targets(self, depth: int) -> tuple[int, ...]:
        """The blocks whose output is read, of a network of `depth` blocks.

        The paper's layers 10 and 20 count the embedding as layer 0, so that they are the outputs of blocks 9 and 19.
        """
        return self.target_layers or tuple(sorted({max(depth * layer // 32, 1) - 1 for layer in (10, 20)}))

    def transforms(self, depth: int) -> tuple[int, ...]:
        """The blocks that carry LoRA, of a network of `depth` blocks; ValueError for -1 beside others."""
        if -1 not in self.transform_layers:
            return self.transform_layers
        if len(self.transform_layers) > 1:
            raise ValueError(f"transform_layers: -1 means all and stands alone, got {self.transform_layers}")
        return tuple(range(max(self.targets(depth)) + 1))


class Rerouting:
    """One training: its prompts, the states it reads, both losses and the cosines on the way."""

    def __init__(self, method: CircuitBreaker, backbone: Backbone, data: BreakerData, seed: int) -> None:
        self.method, self.backbone, self.seed = method, backbone, seed
        blocks = {site.block: site for site in backbone.select("block", stream="image")}
        targets = method.targets(len(blocks))
        if missing := [block for block in targets if block not in blocks]:
            raise ValueError(f"target_layers: {backbone.name} has no block {missing[0]}; it has 0 to {max(blocks)}")
        layers = linear_layers(backbone, method.transforms(len(blocks)))
        self.sites = [blocks[block] for block in targets]
        backbone.gather([*data.breaker, *data.retain, *data.validation, *data.unseen], seed)
        self.breaker, self.retain = (Prompts.of(backbone, prompts) for prompts in (data.breaker, data.retain))
        self.twins = Prompts.of(backbone, data.twins) if method.reroute == "neutral" else None
        self.held_out = Prompts.of(backbone, data.validation or data.retain)
        self.unseen = Prompts.of(backbone, data.unseen or data.breaker)
        self.empty = backbone.encode([""])
        self.centres = self._centres(data.retain) if method.centre else {}
        options = {"scaling": method.lora_alpha / method.rank, "spread": method.start}
        self.lora = LowRank.create(backbone, layers, method.rank, generator(Purpose.WEIGHTS, seed), **options)
        self.history: list[dict[str, Any]] = []  # held-out cosines on the way

    def loss(self, step: int, generator: torch.Generator) -> Tensor:
        """Both losses, a scalar, at their weights for a step counted from 0."""
        method = self.method
        away, stay = coefficients(step + 1, method.alpha, HORIZONS[method.horizon](method.steps))
        value = away * self._breaking(generator) + self._staying(stay, generator)
        watched = step + 1 in [at["step"] for at in self.history]  # by an earlier batch of this step
        if (step + 1) % method.log_every == 0 and not watched:
            cosines = self.watch(1)
            self.history.append({"step": step + 1, "cosines": cosines})
            for name, layers in cosines.items():
                by_layer = {layer: list(scales.values()) for layer, scales in layers.items()}
                log.info("step %d: %s cosine %s, by layer and scale %s", step + 1, name, _mean(layers), by_layer)
                follow("circuit_breaker", step, (), **{f"{name}_cosine": _mean(layers)})
        return value

    def state_dict(self) -> dict[str, Any]:
        """The cosines so far, for the training's checkpoint."""
        return {"history": self.history}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up what `state_dict` returned."""
        self.history = state["history"]

    def _breaking(self, generator: torch.Generator) -> Tensor:
        rows = self.breaker.indices(self.method.batch, generator)
        condition = self.breaker.condition.rows(rows)
        state = self.backbone.draw(condition, generator)
        condition = self._without_prompt(condition, self.method.response_only, generator)
        reference, _ = self._read(state, self.twins.condition.rows(rows) if self.twins else condition)
        with self.lora.attach(self.backbone):
            adapted, _ = self._read(state, condition, gradients=True)
        if self.twins:
            return 1 - _total(self._compare(reference, adapted, token_cosine))
        return _total(self._compare(reference, adapted, lambda a, b: token_cosine(a, b).relu()))

    def _staying(self, weight: float, generator: torch.Generator) -> Tensor:
        condition = self.retain.draw(self.method.batch, generator)
        state = self.backbone.draw(condition, generator)
        condition = self._without_prompt(condition, self.method.uncond_share, generator)
        reference, before = self._read(state, condition)
        with self.lora.attach(self.backbone):
            adapted, after = self._read(state, condition, gradients=True)
        distance = partial(token_distance, norm=self.method.norm)
        value = weight * _total(self._compare(reference, adapted, distance, centre=False))
        return value + self.method.divergence * self.backbone.distance(after, before)

    def _read(self, state: State, condition: Condition, *, gradients: bool = False) -> tuple[Activations, Tensor]:
        with torch.set_grad_enabled(gradients), keep_activations(self.backbone, self.sites) as states:
            prediction = self.backbone.predict(state, condition)
        return states, prediction

    def _compare(
        self, reference: Activations, adapted: Activations, measure: Measure, *, centre: bool = True
    ) -> dict[Site, Tensor]:
        """The batch's mean of a measure at each site and scale, (S,)."""
        means = {}
        for site in self.sites:
            before, after, lengths = reference.states[site], adapted.states[site], reference.lengths[site]
            if centre and self.centres:
                mean = torch.stack([self.centres[site][step] for step in reference.steps])
                before, after = centred(before, mean, lengths), centred(after, mean, lengths)
            means[site] = scale_means(measure(before, after), lengths).mean(0)
        return means

    def _without_prompt(self, condition: Condition, share: float, generator: torch.Generator) -> Condition:
        drop = (torch.rand(len(condition), generator=generator) < share).tolist()
        rows = [len(condition) if dropped else i for i, dropped in enumerate(drop)]
        return Condition.join([condition, self.empty]).rows(rows)

    def _centres(self, prompts: Sequence[str]) -> dict[Site, dict[int, Tensor]]:
        pool = activations(self.backbone, prompts, self.sites, self.seed)
        return {site: {step: pool.get(site, step).mean(0) for step in pool.steps(site)} for site in self.sites}

    @torch.no_grad()
    def watch(self, draws: int) -> Cosines:
        """The mean cosine of states before and after by layer and scale (or step): of what must break, and what stays.

        On held-out prompts if the data has some, over `draws` batches of `ROWS`.
        """
        size = min(ROWS, self.backbone.settings.batch)
        draws = -(-draws * ROWS // size)  # smaller batches, but more of them
        cosines: dict[str, dict[str, dict[int, list[float]]]] = {}
        for name, prompts in (("breaker", self.unseen), ("retain", self.held_out)):
            values = cosines.setdefault(name, {str(site): {} for site in self.sites})
            for draw in range(draws):
                owner = generator(Purpose.PARTIAL, self.seed, draw)
                condition = prompts.draw(size, owner)
                state = self.backbone.draw(condition, owner)
                reference, _ = self._read(state, condition)
                with self.lora.attach(self.backbone):
                    adapted, _ = self._read(state, condition)
                for site, scales in self._compare(reference, adapted, token_cosine).items():
                    for step, value in zip(reference.steps, scales.tolist(), strict=True):
                        values[str(site)].setdefault(step, []).append(value)
        return {
            name: {s: {t: round(sum(v) / len(v), 4) for t, v in sorted(by.items())} for s, by in sites.items()}
            for name, sites in cosines.items()
        }


def _total(measures: Mapping[Site, Tensor]) -> Tensor:
    return torch.stack([scales.mean() for scales in measures.values()]).mean()


def _mean(cosines: Mapping[str, Mapping[int, float]]) -> float:
    values = [value for scales in cosines.values() for value in scales.values()]
    return round(sum(values) / len(values), 3)
