"""Conditioned activation transport (arXiv 2603.03163): a small network per layer and step, used where a gate opens."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from stages.backbones.core.base import Backbone
from stages.interventions.steering.gates import Gate
from stages.interventions.steering.maps import Transport
from stages.interventions.steering.steering import Mode, Steering, role_strengths
from stages.methods.shared.classes import Classes, Gated, Location, activations, sites_at
from stages.params.concept import Concept
from stages.params.types import Count, NonNegative, Rate
from stages.seeds import Purpose, generator
from stages.training.minimize import minimize
from stages.training.settings import Adam, Training

Place = TypeVar("Place", bound=Hashable)


@dataclass(frozen=True, kw_only=True)
class ConditionedTransport(Gated, Training):
    """T = argmin mean || T(m) - m' ||^2 over pooled activations m with the concept and m' of the neutral twin; all
    tokens move by T(m) - m. arXiv 2603.03163.

    A map acts only if its gate takes a sample for the concept rather than for the neutral twin (`against: target`) or a
    retain prompt (`against: retain`).
    """

    location: Location = "ffn"  # which activations
    steps_on: tuple[int, ...] = ()  # sampler steps, or scales; empty: all
    layers: tuple[int, ...] = ()  # of the location, from 0; empty: all
    strength: NonNegative = 1.0  # 0 moves nothing, 1 the whole way
    mode: Mode = "CONDITIONAL"  # which half of guidance is moved
    gate: Gate = "discriminant"
    samples: Count = 256
    hidden: Count = 128  # width of a map
    identity: NonNegative = 0.0  # weight of leaving neutral activations alone
    residual: bool = True  # off: a map starts at zero and pulls everything there
    batch: Count = 128
    steps: Count = 1000
    lr: Rate = 1e-2
    weight_decay: NonNegative = 1e-5
    clip: Rate | None = 1.0
    optimizer: Adam = "adam"

    def fit(self, backbone: Backbone, concept: Concept, *, seed: int) -> Steering:
        """Samples pairs from the same noise and trains all maps together; ValueError if no layer and step is left."""
        concept = self.learned(concept)
        sites = [s for i, s in enumerate(sites_at(backbone, self.location)) if not self.layers or i in self.layers]
        classes = Classes.of(concept, self.samples)
        source = activations(backbone, classes.source, sites, seed)
        target = activations(backbone, classes.target, sites, seed)
        keys = [(s, t) for s in sites for t in source.steps(s) if not self.steps_on or t in self.steps_on]
        if not keys:
            raise ValueError(f"no layer {self.layers} and step {self.steps_on} in {backbone.name}")
        pairs = {key: (source.get(*key), target.get(*key)) for key in keys}
        others = self.others(backbone, concept, sites, seed, target)
        networks = self.train(pairs, seed)
        maps = {key: self._map(networks[key], pairs[key][0], others.get(*key)) for key in keys}
        strengths = dict.fromkeys(keys, role_strengths(self.mode, self.strength, self.strength))
        return Steering("network", maps, strengths, gate=self.gate)

    def train(self, pairs: Mapping[Place, tuple[Tensor, Tensor]], seed: int) -> dict[Place, Transport]:
        """One transport per key, by squared error on paired activations, two (n, D) each."""
        draws = generator(Purpose.WEIGHTS, seed)
        networks = {
            key: Transport(source.shape[1], self.hidden, residual=self.residual).restart(draws).to(source.device)
            for key, (source, _) in pairs.items()
        }

        def loss(step: int, generator: torch.Generator) -> Tensor:
            size = len(next(iter(pairs.values()))[0])
            rows = torch.randint(size, (self.batch,), generator=generator)
            value = torch.zeros(())
            for key, (source, target) in pairs.items():
                value = value + (networks[key](source[rows]) - target[rows]).square().mean()
                if self.identity:
                    value = value + self.identity * (networks[key](target[rows]) - target[rows]).square().mean()
            return value

        parameters = [p for network in networks.values() for p in network.parameters()]
        minimize(loss, parameters, self, seed=seed, label="transport")
        return networks

    def _map(self, network: Transport, source: Tensor, others: Tensor) -> dict[str, Tensor]:
        by = {name: value.detach() for name, value in network.state_dict().items()}
        if not self.residual:
            by["plain"] = torch.ones(1)
        return by | self.tensors(source, others)
