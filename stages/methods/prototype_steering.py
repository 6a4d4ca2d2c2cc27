"""Prototype steering: activations moved from the mean of one class towards the mean of another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from torch import Tensor

from stages.backbones.core.base import Backbone
from stages.control.sites import Site
from stages.documented.setups import ALL, Setup, parse_setup, read_setups
from stages.interventions.steering.maps import Form
from stages.interventions.steering.steering import Mode, Steering, role_strengths
from stages.methods.shared.classes import Classes, Gated, Visual, activations, sites_at
from stages.objectives.statistics import Distance, prototype_direction
from stages.params.concept import Concept
from stages.params.datasets import Split, read_prompts, select
from stages.params.types import File, Natural, Needs
from stages.reading.activations import TokenMeans

FORMS: dict[str, Form] = {"additive": "shift", "attract": "attract", "project": "project"}
EVERYWHERE = {"scales": {"all": {"layers": [ALL], "strength_cond": 1.0, "strength_uncond": 1.0}}}


@dataclass(frozen=True, kw_only=True)
class PrototypeSteering(Gated):
    """h + strength (mu_target - mu_source) by scale (or step) and layer, with the means of two classes' activations.

    A grid search goes through a file's setups (`sweep` in a study's cell), or narrows one setup and multiplies it.
    """

    NEEDS: ClassVar[Needs] = {
        "location": {"steering": ("VISUAL", "BOTH")},
        "mode": {"steering": ("VISUAL", "BOTH")},
        "scales": {"steering": ("VISUAL", "BOTH")},
    }

    steering: Literal["TEXT", "VISUAL", "BOTH"] = "VISUAL"  # a setup's text layers, its image layers, or both
    location: Visual = "ffn"  # which image activations
    distance: Distance = "EUCLIDEAN"  # MAHALANOBIS turns the difference by the shared precision, at the same length
    mode: Mode = "BOTH"  # which half of guidance; of image layers alone: the unconditional half has no text
    variant: Literal[0, 1] = 1  # the class steered to: 1 the neutral prompts, 0 the concept
    classes: tuple[dict[str, str], dict[str, str]] | None = None  # or labels of the dataset, picked by `variant`
    # Layers and strengths by scale: an object, or the path of a JSON file.
    setup: File | dict[str, Any] = field(default_factory=lambda: dict(EVERYWHERE))
    setup_index: Natural | None = None  # which of a file's list of setups
    scales: tuple[int, ...] = ()  # only these scales of the setup; empty: all
    layers: tuple[int, ...] = ()  # only these layers of it (text layers for TEXT); empty: all
    strength: float = 1.0  # multiplies the setup's strengths
    form: Literal["additive", "attract", "project"] = "additive"  # see stages.interventions.steering.maps
    renorm: bool = False  # tokens keep their lengths

    def fit(self, backbone: Backbone, concept: Concept, *, seed: int) -> Steering:
        """Samples both classes from the same noise; prototypes come from the half of guidance that they steer.

        ValueError for a setup that does not fit the network, or fields that contradict each other.
        """
        concept = self.learned(concept)
        if self.steering == "TEXT" and (self.scales or self.mode == "UNCONDITIONAL"):
            name = "mode: UNCONDITIONAL" if self.mode == "UNCONDITIONAL" else "scales"
            raise ValueError(f"{name} is of the image, which steering: TEXT leaves alone")
        setup = self._narrowed()
        sites = sites_at(backbone, self.location) if self.steering != "TEXT" else []
        text = list(backbone.addresses.text_sites) if self.steering != "VISUAL" else []
        setup.check(backbone.calls(backbone.settings.steps), len(sites) or 10**6, len(text) or 10**6)
        return self.steer(backbone, setup, *self.prototypes(backbone, concept, [*sites, *text], seed))

    def prototypes(
        self, backbone: Backbone, concept: Concept, sites: list[Site], seed: int
    ) -> tuple[TokenMeans, TokenMeans, TokenMeans]:
        """Pooled activations of the class steered from, of the class steered to, and of the samples to leave alone."""
        classes = self._classes(concept)
        source, target = (
            activations(backbone, prompts, sites, seed, wanted=self._steered)
            for prompts in (classes.source, classes.target)
        )
        return source, target, self.others(backbone, concept, sites, seed, target, self._steered)

    def steer(
        self, backbone: Backbone, setup: Setup, source: TokenMeans, target: TokenMeans, others: TokenMeans
    ) -> Steering:
        """The steering of one setup."""
        maps: dict[tuple[Site, int], Mapping[str, Tensor]] = {}
        strengths: dict[tuple[Site, int], dict[str, float]] = {}
        for key, both in self._strengths(backbone, setup).items():
            if any(both.values()):
                maps[key] = self._map(*(pool.get(*key, self._role(key[0])) for pool in (source, target, others)))
                strengths[key] = both
        form = FORMS[self.form]
        return Steering(form, maps, strengths, renorm=self.renorm, gate=self.gate).scaled(self.strength)

    def _role(self, site: Site) -> str:
        """The half of guidance that prototypes at a site are of."""
        return "uncond" if self.mode == "UNCONDITIONAL" and site.stream != "encoder" else "cond"

    def _steered(self, site: Site, step: int, role: str) -> bool:
        return role == self._role(site)

    def _strengths(self, backbone: Backbone, setup: Setup) -> dict[tuple[Site, int], dict[str, float]]:
        strengths = {}
        if self.steering != "TEXT":
            for layer, site in enumerate(sites_at(backbone, self.location)):
                for step in range(backbone.calls(backbone.settings.steps)):
                    scale = setup.scale(step)
                    if scale is not None and (layer in scale.layers or ALL in scale.layers):
                        strengths[site, step] = role_strengths(self.mode, *scale.at(layer))
        if self.steering != "VISUAL":
            for layer, site in enumerate(backbone.addresses.text_sites):
                if layer in setup.layers_text or ALL in setup.layers_text:
                    strengths[site, 0] = {"cond": setup.strength_text, "uncond": 0.0}
        return strengths

    def _map(self, source: Tensor, target: Tensor, others: Tensor) -> dict[str, Tensor]:
        by = {"direction": prototype_direction(source, target, self.distance), "target": target.mean(0)}
        return by | self.tensors(source, others)

    def _narrowed(self) -> Setup:
        setup = self._one_setup()
        if self.steering == "TEXT":
            return setup.narrowed_text(self.layers)
        return setup.narrowed(self.scales, self.layers)

    def _one_setup(self) -> Setup:
        if isinstance(self.setup, dict):
            setups, where = [parse_setup(self.setup)], "setup"
        else:
            setups, where = read_setups(self.setup), self.setup
        if self.setup_index is None and len(setups) != 1:
            raise ValueError(
                f"{where}: a run has one setup, got {len(setups)}; choose one by setup_index, or sweep over it"
            )
        index = self.setup_index or 0
        if index >= len(setups):
            raise ValueError(f"setup_index: {where} has the setups 0 to {len(setups) - 1}, got {index}")
        return setups[index]

    def _classes(self, concept: Concept) -> Classes:
        if self.classes is None:
            return Classes.of(concept, self.samples, self.variant)
        table = read_prompts(concept.dataset)
        split: Split | None = "fit" if "split" in table else None
        rows = [select(table, labels, "concept", split)["prompt"].tolist() for labels in self.classes]
        prompts = [tuple(row[i % len(row)] for i in range(self.samples)) for row in rows]
        return Classes(prompts[1 - self.variant], prompts[self.variant])
