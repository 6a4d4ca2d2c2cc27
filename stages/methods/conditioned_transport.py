"""Conditioned activation transport (arXiv 2603.03163): a small network per layer and step, used where a gate opens."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import torch
from torch import Tensor

from stages.backbones.core.base import Backbone
from stages.control.sites import Site
from stages.interventions.steering.gates import Gate
from stages.interventions.steering.maps import Transport
from stages.interventions.steering.steering import Mode, Steering, role_strengths
from stages.methods.shared.classes import Classes, Gated, Location, activations, sites_at
from stages.params.concept import Concept
from stages.params.types import Count, Departs, Natural, NonNegative, Rate
from stages.seeds import Purpose, generator, generators, hashed
from stages.training.minimize import minimize
from stages.training.plateau import Plateau
from stages.training.settings import Adam, Training

Place = TypeVar("Place", bound=Hashable)


@dataclass(frozen=True, kw_only=True)
class ConditionedTransport(Gated, Training):
    """T = argmin mean || T(m) - m' ||^2 over pooled activations m with the concept and m' of the neutral twin; all
    tokens move by T(m) - m. arXiv 2603.03163.

    A map acts only if its gate takes a sample for the concept rather than for the neutral twin (`against: target`) or a
    retain prompt (`against: retain`).
    """

    DEPARTS: ClassVar[Departs] = {"location": "location: {location}"}

    location: Location = "ffn"  # which activations
    steps_on: tuple[int, ...] = ()  # sampler steps, or scales; empty: all
    layers: tuple[int, ...] = ()  # of the location, from 0; empty: all
    text_layers: tuple[int, ...] = ()  # blocks of the text encoders that are moved beside them, from 0
    strength: NonNegative = 1.0  # 0 moves nothing, 1 the whole way
    mode: Mode = "CONDITIONAL"  # which half of guidance is moved
    gate: Gate = "discriminant"
    samples: Count = 256
    hidden: Count = 128  # width of a map
    identity: NonNegative = 0.0  # weight of leaving neutral activations alone
    residual: bool = True  # off: a map starts at zero and pulls everything there
    batch: Count = 128
    steps: Count = 1000  # of each map's training
    # Passes over all samples without a smaller loss after which a map's training ends; the learning rate halves after
    # more than half of them. 0: neither.
    patience: Natural = 0
    lr: Rate = 1e-2
    weight_decay: NonNegative = 1e-5
    clip: Rate | None = 1.0  # the largest norm of one map's gradients
    optimizer: Adam = "adam"

    def fit(self, backbone: Backbone, concept: Concept, *, seed: int) -> Steering:
        """Samples pairs from the same noise and trains a map of each; ValueError if there is no such layer or step."""
        concept = self.learned(concept)
        sites = self.sites(backbone)
        classes = Classes.of(concept, self.samples)
        source, target = (
            activations(backbone, prompts, sites, seed, wanted=self._moved)
            for prompts in (classes.source, classes.target)
        )
        keys = [(site, step) for site in sites for step in source.steps(site)]
        if not keys:
            raise ValueError(f"no layer {self.layers} and step {self.steps_on} in {backbone.name}")
        pairs = {key: (source.get(*key), target.get(*key)) for key in keys}
        others = self.others(backbone, concept, sites, seed, target, self._moved)
        networks = self.train(pairs, seed)
        maps = {key: self._map(networks[key], pairs[key][0], others.get(*key)) for key in keys}
        strengths = dict.fromkeys(keys, role_strengths(self.mode, self.strength, self.strength))
        return Steering("network", maps, strengths, gate=self.gate)

    def sites(self, backbone: Backbone) -> list[Site]:
        """The layers of the text encoders, and those of the location; ValueError for one that is not there."""
        if self.location == "text" and self.text_layers:
            raise ValueError("text_layers stand beside layers of the image; with location: text name them in layers")
        image, text = sites_at(backbone, self.location), sites_at(backbone, "text")
        for name, layers, have in (("layers", self.layers, image), ("text_layers", self.text_layers, text)):
            missing = [layer for layer in layers if layer >= len(have)]
            if missing:
                raise ValueError(f"{name}: {backbone.name} has {len(have)} there, numbered from 0, got {missing}")
        return [*(text[i] for i in self.text_layers), *(image[i] for i in self.layers or range(len(image)))]

    def _moved(self, site: Site, step: int, role: str) -> bool:
        """Whether a map is fitted there: of the text, which is read once, or at one of the steps."""
        return role == "cond" and (site.stream == "encoder" or not self.steps_on or step in self.steps_on)

    def train(self, pairs: Mapping[Place, tuple[Tensor, Tensor]], seed: int) -> dict[Place, Transport]:
        """One transport per key, each trained alone, by squared error on paired activations, two (n, D) each."""
        draws = generator(Purpose.WEIGHTS, seed)
        networks = {
            key: Transport(source.shape[1], self.hidden, residual=self.residual).restart(draws).to(source.device)
            for key, (source, _) in pairs.items()
        }
        for key, network in networks.items():
            name = " ".join(map(str, key)) if isinstance(key, tuple) else str(key)
            self._train(network, *pairs[key], seed, f"transport {name}")
        return networks

    def _train(self, network: Transport, source: Tensor, target: Tensor, seed: int, label: str) -> None:
        """Passes over all pairs in random order, a batch at a time; what is left over of a pass waits for the next."""
        passes = max(1, len(source) // self.batch)

        def loss(step: int, _generator: torch.Generator) -> Tensor:
            number, part = divmod(step, passes)
            (owner,) = generators([hashed(Purpose.STEP, "pass", seed, number)])
            order = torch.randperm(len(source), generator=owner)
            rows = order[part * self.batch : (part + 1) * self.batch].to(source.device)
            value = (network(source[rows]) - target[rows]).square().mean()
            if self.identity:
                value = value + self.identity * (network(target[rows]) - target[rows]).square().mean()
            return value

        plateau = [Plateau(passes, self.patience)] if self.patience else []
        minimize(loss, network.parameters(), self, seed=seed, label=label, companions=plateau)

    def _map(self, network: Transport, source: Tensor, others: Tensor) -> dict[str, Tensor]:
        by = {name: value.detach() for name, value in network.state_dict().items()}
        if not self.residual:
            by["plain"] = torch.ones(1)
        return by | self.tensors(source, others)
