"""Activation transport (arXiv 2410.23054): every neuron mapped from its values with the concept to those without."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal, TypeVar, get_args

import torch
from torch import Tensor

from stages.backbones.core.base import Backbone
from stages.control.sites import Kind, Site
from stages.interventions.steering.steering import Mode, Steering, role_strengths
from stages.methods.shared.classes import Classes, Gated, activations
from stages.objectives.statistics import (
    NOWHERE,
    gaussian_transport,
    linear_transport,
    lively,
    mean_transport,
    support,
)
from stages.params.concept import Concept
from stages.params.types import Count, Departs, Fraction
from stages.reading.activations import TokenMeans

FITS = {"linear": linear_transport, "gaussian": gaussian_transport, "mean": mean_transport}
Place = TypeVar("Place", bound=Hashable)
Fit = TypeVar("Fit")
Map = dict[str, Tensor]
Steps = dict[int, Map]  # step -> its map


@dataclass(frozen=True, kw_only=True)
class ActivationTransport(Gated):
    """(1 - strength) h + strength T(h), T the optimal map of each neuron from its values on prompts with the concept to
    those without. arXiv 2410.23054.

    The paper moves every sample.
    """

    DEPARTS: ClassVar[Departs] = {"transport": "transport: {transport}", "gate": "gate: {gate}"}

    # T: least squares on sorted values, matched mean and deviation, or the mean alone.
    transport: Literal["linear", "gaussian", "mean"] = "linear"
    strength: Fraction = 1.0  # 0 moves nothing, 1 the whole way, beyond which the paper does not go
    samples: Count = 512
    layers: tuple[str, ...] = ("norm", "norm_cross", "norm_ff")  # kinds of site, sites, or `text`: the text encoders
    support: tuple[float, float] | None = (0.0, 100.0)  # percentiles of the concept's values; values outside stay
    # Layer by layer with the earlier maps at work, on both classes or on the source alone; `no`: all at once.
    incremental: Literal["both", "source", "no"] = "both"
    mode: Mode = "BOTH"  # which half of guidance is moved

    def fit(self, backbone: Backbone, concept: Concept, *, seed: int) -> Steering:
        """Samples both classes and fits one map per neuron, site and step; ValueError for layers that there are not."""
        concept = self.learned(concept)
        sites = self.sites(backbone)
        run = _Fit(self, backbone, concept, sites, seed)
        learned = run.at_once() if self.incremental == "no" else in_turn(sites, run.collect, run.maps)
        return self.steering(flat(learned))

    def sites(self, backbone: Backbone) -> list[Site]:
        """The outputs of `layers` in order of execution; ValueError names a layer that is unknown here."""
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
        """Weight, bias (D,) and support (2, D) of pooled activations (n, D), and the gate's own tensors.

        Gaussian and mean maps leave almost constant neurons alone.
        """
        region = support(source, *(self.support or (None, None)))
        if self.transport != "linear":
            region = torch.where(lively(source, target), region, region.new_tensor(NOWHERE)[:, None])
        return FITS[self.transport](source, target) | {"support": region} | self.tensors(source, others)

    def steering(self, maps: Mapping[tuple[Site, int], Map]) -> Steering:
        """The maps at this strength."""
        both = role_strengths(self.mode, self.strength, self.strength)
        return Steering("affine", maps, dict.fromkeys(maps, both), gate=self.gate, reuse=True)


class _Fit:
    """One fit: what a layer is learned from, and with which maps at work meanwhile."""

    def __init__(
        self, method: ActivationTransport, backbone: Backbone, concept: Concept, sites: list[Site], seed: int
    ) -> None:
        self.method, self.backbone, self.concept, self.sites, self.seed = method, backbone, concept, sites, seed
        self.classes = Classes.of(concept, method.samples)

    @cached_property
    def retain(self) -> TokenMeans | None:
        """Of all sites, with no map at work; sampled when the first gate asks for it."""
        return self.method.retain(self.backbone, self.concept, self.sites, self.seed)

    def at_once(self) -> dict[Site, Steps]:
        """The maps of all sites, none at work while the others are learned."""
        sides = (self.classes.source, self.classes.target)
        pools = [activations(self.backbone, prompts, self.sites, self.seed) for prompts in sides]
        return {site: self.maps(site, *pools) for site in self.sites}

    def collect(self, site: Site, learned: Mapping[Site, Steps]) -> tuple[Site, TokenMeans, TokenMeans]:
        """Both classes' activations at a site, with the maps of earlier sites at work."""
        work = [self.method.steering(flat(learned))]
        source = activations(self.backbone, self.classes.source, [site], self.seed, work)
        work = work if self.method.incremental == "both" else []
        return site, source, activations(self.backbone, self.classes.target, [site], self.seed, work)

    def maps(self, site: Site, source: TokenMeans, target: TokenMeans) -> Steps:
        """The maps of a site, one per step."""
        pools = (source, target, self.retain or target)
        return {step: self.method.map(*(pool.get(site, step) for pool in pools)) for step in source.steps(site)}


def flat(learned: Mapping[Site, Steps]) -> dict[tuple[Site, int], Map]:
    """The maps by site and step."""
    return {(site, step): by for site, steps in learned.items() for step, by in steps.items()}


def in_turn(
    places: Iterable[Place],
    collect: Callable[[Place, Mapping[Place, Fit]], tuple[object, ...]],
    fit: Callable[..., Fit],
    *,
    incremental: bool = True,
) -> dict[Place, Fit]:
    """One fit per place, in turn: `fit` of the samples that `collect(place, learned)` takes with the earlier fits at
    work."""
    learned: dict[Place, Fit] = {}
    for place in places:
        learned[place] = fit(*collect(place, learned if incremental else {}))
    return learned
