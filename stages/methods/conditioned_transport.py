"""Conditioned activation transport (arXiv 2603.03163): a small network per layer and step, used where a gate opens."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stages.backbones.core.base import Backbone
from stages.interventions.steering.gates import Gate, gate_tensors
from stages.interventions.steering.maps import Transport
from stages.interventions.steering.steering import Mode, Steering, role_strengths
from stages.methods.shared.classes import Against, Classes, Location, activations, kept_out, sites_at
from stages.params.concept import Concept
from stages.params.types import Count, Fraction, NonNegative, Rate
from stages.training.minimize import generator, minimize


@dataclass
class ConditionedTransport:
    """Learns maps from pooled activations with the concept to those of the neutral twin; all tokens move along.

    A map acts on samples whose activations look like the concept's (`discriminant` or `region` gate) only, rather than
    like the neutral twin's or, `against` retain, like those of prompts that must not change. `steps_on` and `layers`
    choose where (all when empty). `identity` weighs leaving neutral activations alone; without `residual` a map starts
    at zero and pulls everything there.
    """

    location: Location = "ffn"
    steps_on: tuple[int, ...] = ()
    layers: tuple[int, ...] = ()
    strength: NonNegative = 1.0
    mode: Mode = "CONDITIONAL"
    gate: Gate = "discriminant"
    against: Against = "target"
    threshold: Fraction = 0.25
    quantile: Fraction = 0.98
    samples: Count = 256
    hidden: Count = 128
    steps: Count = 1000
    batch: Count = 128
    lr: Rate = 1e-2
    weight_decay: NonNegative = 1e-5
    clip: Rate = 1.0
    identity: NonNegative = 0.0
    residual: bool = True

    def fit(self, backbone: Backbone, concept: Concept, *, seed: int) -> Steering:
        """Samples pairs from the same noise and trains all maps together."""
        sites = [s for i, s in enumerate(sites_at(backbone, self.location)) if not self.layers or i in self.layers]
        classes = Classes.of(concept, self.samples)
        source = activations(backbone, classes.source, sites, seed)
        target = activations(backbone, classes.target, sites, seed)
        keys = [(s, t) for s in sites for t in source.steps(s) if not self.steps_on or t in self.steps_on]
        if not keys:
            raise ValueError(f"no layer {self.layers} and step {self.steps_on} in {backbone.name}")
        pairs = {key: (source.get(*key), target.get(*key)) for key in keys}
        others = kept_out(backbone, concept, sites, self.samples, seed, self.gate, self.against) or target
        networks = self.train(pairs, seed)
        maps = {key: self._map(networks[key], pairs[key][0], others.get(*key)) for key in keys}
        strengths = dict.fromkeys(keys, role_strengths(self.mode, self.strength, self.strength))
        return Steering("network", maps, strengths, gate=self.gate)

    def train(self, pairs: dict[object, tuple[Tensor, Tensor]], seed: int) -> dict[object, Transport]:
        """One transport per key, by squared error on paired activations."""
        draws = generator(seed, -1)
        made = {
            key: Transport(source.shape[1], self.hidden, residual=self.residual).restart(draws).to(source.device)
            for key, (source, _) in pairs.items()
        }

        def loss(step: int, generator: torch.Generator) -> Tensor:
            size = len(next(iter(pairs.values()))[0])
            rows = torch.randint(size, (self.batch,), generator=generator)
            value = torch.zeros(())
            for key, (source, target) in pairs.items():
                value = value + (made[key](source[rows]) - target[rows]).square().mean()
                if self.identity:
                    value = value + self.identity * (made[key](target[rows]) - target[rows]).square().mean()
            return value

        parameters = [p for network in made.values() for p in network.parameters()]
        settings = {"steps": self.steps, "lr": self.lr, "weight_decay": self.weight_decay, "clip": self.clip}
        minimize(loss, parameters, **settings, optimizer="adam", seed=seed, label="transport")
        return made

    def _map(self, network: Transport, source: Tensor, others: Tensor) -> dict[str, Tensor]:
        by = {name: value.detach() for name, value in network.state_dict().items()}
        if not self.residual:
            by["plain"] = torch.ones(1)
        return by | gate_tensors(self.gate, source, others, self.threshold, self.quantile)
