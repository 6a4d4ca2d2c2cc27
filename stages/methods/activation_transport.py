"""Activation transport (arXiv 2410.23054): every neuron mapped from its values with the concept to those without."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal, TypeVar, get_args

import torch
from torch import Tensor

from stages.backbones.core.base import Backbone
from stages.control.sites import Kind, Site
from stages.interventions.steering.gates import Gate, gate_tensors
from stages.interventions.steering.steering import Mode, Steering, role_strengths
from stages.methods.shared.classes import Against, Classes, activations, kept_out
from stages.objectives.statistics import (
    NOWHERE,
    gaussian_transport,
    linear_transport,
    lively,
    mean_transport,
    support,
)
from stages.params.concept import Concept
from stages.params.types import Count, Fraction, NonNegative
from stages.reading.activations import TokenMeans

FITS = {"linear": linear_transport, "gaussian": gaussian_transport, "mean": mean_transport}
Place = TypeVar("Place", bound=Hashable)
Map = dict[str, Tensor]


@dataclass
class ActivationTransport:
    """Moves each neuron by the optimal map between its values on prompts with and without the concept; trains nothing.

    `linear` fits sorted values by least squares, `gaussian` matches mean and deviation, `mean` the mean alone. Values
    outside the percentiles `support` of the concept's are left alone (null: none are). `incremental` learns layer by
    layer with the earlier ones at work, for both classes or for the `source` alone. The paper moves every sample; a
    `gate` keeps to those that look like the concept's, see `PrototypeSteering`.
    """

    transport: Literal["linear", "gaussian", "mean"] = "linear"
    strength: NonNegative = 1.0
    samples: Count = 512
    layers: tuple[str, ...] = ("norm", "norm_cross", "norm_ff")
    support: tuple[float, float] | None = (0.0, 100.0)
    incremental: Literal["both", "source", "no"] = "both"
    mode: Mode = "BOTH"
    gate: Gate = "none"
    against: Against = "target"
    threshold: Fraction = 0.25
    quantile: Fraction = 0.98

    def fit(self, backbone: Backbone, concept: Concept, *, seed: int) -> Steering:
        """Samples both classes and fits one map per neuron, site and step."""
        sites = self.sites(backbone)
        classes = Classes.of(concept, self.samples)
        kept = cache(lambda: kept_out(backbone, concept, sites, self.samples, seed, self.gate, self.against))

        def collect(site: Site, learned: Mapping[Site, dict[int, Map]]) -> tuple[Site, TokenMeans, TokenMeans]:
            work = [self.steering({(s, t): m for s, steps in learned.items() for t, m in steps.items()})]
            source = activations(backbone, classes.source, [site], seed, work)
            return site, source, activations(backbone, classes.target, [site], seed, work * self._both())

        def fit(site: Site, source: TokenMeans, target: TokenMeans) -> dict[int, Map]:
            pools = (source, target, kept() or target)
            return {step: self.map(*(pool.get(site, step) for pool in pools)) for step in source.steps(site)}

        if self.incremental == "no":
            both = [activations(backbone, prompts, sites, seed) for prompts in (classes.source, classes.target)]
            learned = {site: fit(site, *both) for site in sites}
        else:
            learned = in_turn(sites, collect, fit)
        return self.steering({(site, step): m for site, steps in learned.items() for step, m in steps.items()})

    def sites(self, backbone: Backbone) -> list[Site]:
        """The outputs of `layers` in order of execution: kinds, sites, or `text` for the text encoders' blocks."""
        text = [s for s in backbone.addresses.text_sites if {"text", str(s)} & set(self.layers)]
        image = [s for s in backbone.sites if s.part == "out" and s.stream == "image"]
        image = [s for s in image if {s.kind, str(s)} & set(self.layers)]
        known = {*get_args(Kind), "text", *map(str, [*text, *image])}  # of kinds, a network may lack some
        wrong = [name for name in self.layers if name not in known]
        if wrong or not [*text, *image]:
            kinds = {site.kind for site in backbone.sites} | ({"text"} if backbone.addresses.text_sites else set())
            names = ", ".join(wrong or self.layers)
            raise ValueError(f"{backbone.name} has none of the layers {names}; it has {sorted(kinds)}")
        return [*text, *image]

    def map(self, source: Tensor, target: Tensor, others: Tensor) -> Map:
        """Weight, bias and support of every neuron; Gaussian and mean maps leave almost constant neurons alone."""
        region = support(source, *(self.support or (None, None)))
        if self.transport != "linear":
            region = torch.where(lively(source, target), region, region.new_tensor(NOWHERE)[:, None])
        gate = gate_tensors(self.gate, source, others, self.threshold, self.quantile)
        return FITS[self.transport](source, target) | {"support": region} | gate

    def steering(self, maps: Mapping[tuple, Map]) -> Steering:
        """The maps at this strength."""
        both = role_strengths(self.mode, self.strength, self.strength)
        return Steering("affine", maps, dict.fromkeys(maps, both), gate=self.gate, reuse=True)

    def _both(self) -> int:
        return int(self.incremental == "both")


def in_turn(
    places: Iterable[Place],
    collect: Callable[[Place, Mapping[Place, object]], tuple],
    fit: Callable[..., object],
    *,
    incremental: bool = True,
) -> dict[Place, object]:
    """Fits one place after another on what `collect(place, learned)` finds there with the earlier fits at work."""
    learned: dict[Place, object] = {}
    for place in places:
        learned[place] = fit(*collect(place, learned if incremental else {}))
    return learned
