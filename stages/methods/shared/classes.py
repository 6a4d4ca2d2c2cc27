"""What steering methods share: two classes of prompts, sites, gates, activations pooled while sampling."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from stages.backbones.core.base import Backbone
from stages.control.sites import Site
from stages.interventions.base import Intervention
from stages.interventions.steering.gates import Gate, gate_tensors
from stages.methods.shared.data import FromPairs
from stages.params.concept import Concept
from stages.params.types import Count, Fraction, Needs
from stages.reading.activations import TokenMeans, Wanted, keep_token_means, of_prompts
from stages.seeds import Purpose, seed_of

Against = Literal["target", "retain"]
Visual = Literal["ffn", "ca", "ca_block"]
Location = Literal["ffn", "ca", "ca_block", "text"]
KINDS: dict[Visual, tuple[str, ...]] = {"ffn": ("ff",), "ca": ("cross_attn", "attn"), "ca_block": ("block",)}


def sites_at(backbone: Backbone, location: Location) -> list[Site]:
    """A location's sites by layer: the image stream's feed-forward, cross-attention (or joint one) or whole block.

    `text`: the text encoders' blocks, which run once, before the first step. KeyError if the network has none.
    """
    if location == "text":
        return list(backbone.addresses.text_sites)
    return backbone.select(*KINDS[location], stream="image")


@dataclass(frozen=True)
class Classes:
    """Prompts of the class to steer away from and of the class to steer to, paired row by row."""

    source: tuple[str, ...]
    target: tuple[str, ...]

    @classmethod
    def of(cls, concept: Concept, samples: int, variant: int = 1) -> Classes:
        """Every pair once at least, and in turn up to `samples` prompts of each; variant 1 steers to the neutral
        prompts, 0 to the concept."""
        pairs = concept.pairs()
        rows = [pairs[i % len(pairs)] for i in range(max(samples, len(pairs)))]
        shows, neutral = tuple(a for a, _ in rows), tuple(b for _, b in rows)
        return cls(shows, neutral) if variant == 1 else cls(neutral, shows)


@dataclass(frozen=True, kw_only=True)
class Gated(FromPairs):
    """Which samples steering moves: all, or those that a gate takes for the class steered from."""

    GATE: ClassVar[str] = "gate"  # the field that names it
    NEEDS: ClassVar[Needs] = {
        "against": {"gate": ("nearest", "discriminant")},
        "threshold": {"gate": ("discriminant",)},
        "quantile": {"gate": ("region",)},
    }

    samples: Count = 96  # prompts of each class, taken in turn; more if there are more pairs
    gate: Gate = "none"  # how a sample is taken for that class; see stages.interventions.steering.gates
    against: Against = "target"  # what a gate tells it from: the class steered to, or the retain prompts
    threshold: Fraction = 0.25  # probability from which the discriminant gate opens
    quantile: Fraction = 0.98  # share of the class's own samples that the region gate takes in

    def gating(self) -> dict[str, Any]:
        """These fields, to hand on to another method."""
        return {field.name: getattr(self, field.name) for field in fields(Gated)}

    def others(
        self,
        backbone: Backbone,
        concept: Concept,
        sites: Iterable[Site],
        seed: int,
        target: TokenMeans,
        wanted: Wanted = of_prompts,
    ) -> TokenMeans:
        """The activations that the gate tells the class steered from apart from: those of the retain prompts, or
        `target`, those of the class steered to."""
        retain = self.retain(backbone, concept, sites, seed, wanted)
        return target if retain is None else retain

    def retain(
        self, backbone: Backbone, concept: Concept, sites: Iterable[Site], seed: int, wanted: Wanted = of_prompts
    ) -> TokenMeans | None:
        """Activations of the retain prompts if the gate is trained against them (`against: retain`); None if it needs
        the target class, or no second class."""
        if self.against == "target" or self.gate in ("none", "region"):
            return None
        many = max(self.samples, len(concept.prompts))
        prompts = [concept.retain[i % len(concept.retain)] for i in range(many)]
        return activations(backbone, prompts, sites, seed, wanted=wanted)

    def tensors(self, source: Tensor, others: Tensor) -> dict[str, Tensor]:
        """The gate's own tensors, from pooled activations (n, D) of both."""
        return gate_tensors(self.gate, source, others, self.threshold, self.quantile)


@torch.no_grad()
def activations(
    backbone: Backbone,
    prompts: Sequence[str],
    sites: Iterable[Site],
    seed: int,
    attached: Sequence[Intervention] = (),
    wanted: Wanted = of_prompts,
) -> TokenMeans:
    """Pooled activations (n, D) of one sample per prompt at each site and step, the i-th of every class from the same
    noise; `attached` stays on meanwhile, and only what is `wanted` is kept."""
    sites = list(sites)
    settings, size = backbone.settings, backbone.settings.batch
    with ExitStack() as stack:
        for intervention in attached:
            stack.enter_context(intervention.attach(backbone))
        pool = stack.enter_context(keep_token_means(backbone, sites, wanted))
        sampled = any(site.stream != "encoder" for site in sites)  # text encoders are done before the first step
        for start in range(0, len(prompts), size):
            batch = prompts[start : start + size]
            seeds = [seed_of(Purpose.ACTIVATIONS, seed, start + i) for i in range(len(batch))]
            condition = backbone.encode(batch)
            if sampled:
                backbone.sample(condition, seeds=seeds, steps=settings.steps, guidance=settings.guidance)
    return pool
