"""Activation transport (arXiv 2410.23054): every neuron mapped from its values with the concept to those without."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

import torch
from torch import Tensor

from stages.backbones.base import Backbone
from stages.concept import Concept
from stages.fields import Count, NonNegative
from stages.interventions.statistics import (
    NOWHERE,
    gaussian_transport,
    linear_transport,
    lively,
    mean_transport,
    support,
)
from stages.interventions.steering import Mode, Steering, role_strengths
from stages.methods.steering import Classes, activations
from stages.sites import Site

FITS = {"linear": linear_transport, "gaussian": gaussian_transport, "mean": mean_transport}
Place = TypeVar("Place", bound=Hashable)
Map = dict[str, Tensor]


@dataclass
class ActivationTransport:
    """Moves each neuron by the optimal map between its values on prompts with and without the concept; trains nothing.

    `linear` fits sorted values by least squares, `gaussian` matches mean and deviation, `mean` the mean alone. Values
    outside the percentiles `support` of the concept's are left alone (null: none are). `incremental` learns layer by
    layer with the earlier ones at work, for both classes or for the `source` alone.
    """

    transport: Literal["linear", "gaussian", "mean"] = "linear"
    strength: NonNegative = 1.0
    samples: Count = 512
    layers: tuple[str, ...] = ("norm", "norm_cross", "norm_ff")
    support: tuple[float, float] | None = (0.0, 100.0)
    incremental: Literal["both", "source", "no"] = "both"
    mode: Mode = "BOTH"

    def fit(self, backbone: Backbone, concept: Concept, *, seed: int) -> Steering:
        """Samples both classes and fits one map per neuron, site and step."""
        sites = self.sites(backbone)
        classes = Classes.of(concept, self.samples)

        def collect(site: object, learned: Mapping[object, dict[int, Map]]) -> tuple[dict[int, Tensor], ...]:
            attached = [self.steering({(s, t): m for s, steps in learned.items() for t, m in steps.items()})]
            found = []
            for prompts, at_work in ((classes.source, attached), (classes.target, attached * (self._both()))):
                pool = activations(backbone, prompts, [site], seed, at_work)
                found.append({step: pool.get(site, step) for step in pool.steps(site)})
            return tuple(found)

        def fit(source: dict[int, Tensor], target: dict[int, Tensor]) -> dict[int, Map]:
            return {step: self.map(source[step], target[step]) for step in source}

        if self.incremental == "no":
            learned = self._at_once(backbone, sites, classes, seed)
        else:
            learned = in_turn(sites, collect, fit)
        return self.steering({(site, step): m for site, steps in learned.items() for step, m in steps.items()})

    def sites(self, backbone: Backbone) -> list[Site]:
        """The outputs of `layers` in order of execution, `text` standing for the text encoders' blocks."""
        kinds = {site.kind for site in backbone.sites} | ({"text"} if backbone.text_sites else set())
        if not kinds & set(self.layers):
            raise ValueError(f"{backbone.name} has none of the layers {', '.join(self.layers)}; it has {sorted(kinds)}")
        text = backbone.text_sites if "text" in self.layers else ()
        image = (s for s in backbone.sites if s.kind in self.layers and s.part == "out" and s.stream == "image")
        return [*text, *image]

    def map(self, source: Tensor, target: Tensor) -> Map:
        """Weight, bias and support of every neuron; Gaussian and mean maps leave almost constant neurons alone."""
        region = support(source, *(self.support or (None, None)))
        if self.transport != "linear":
            region = torch.where(lively(source, target), region, region.new_tensor(NOWHERE)[:, None])
        return FITS[self.transport](source, target) | {"support": region}

    def steering(self, maps: Mapping[tuple, Map]) -> Steering:
        """The maps at this strength."""
        both = role_strengths(self.mode, self.strength, self.strength)
        return Steering("affine", maps, dict.fromkeys(maps, both), reuse=True)

    def _both(self) -> int:
        return int(self.incremental == "both")

    def _at_once(self, backbone: Backbone, sites: list, classes: Classes, seed: int) -> dict[object, dict[int, Map]]:
        source = activations(backbone, classes.source, sites, seed)
        target = activations(backbone, classes.target, sites, seed)
        return {
            site: {step: self.map(source.get(site, step), target.get(site, step)) for step in source.steps(site)}
            for site in sites
        }


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
