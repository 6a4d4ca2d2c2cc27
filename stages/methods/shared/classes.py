"""What steering methods share: two classes of prompts, the sites of a location, activations pooled while sampling."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Literal

import torch

from stages.backbones.core.base import Backbone
from stages.control.sites import Site
from stages.interventions.base import Intervention
from stages.interventions.steering.gates import Gate
from stages.params.concept import Concept
from stages.reading.activations import TokenMeans, keep_token_means

Against = Literal["target", "retain"]
Visual = Literal["ffn", "ca", "ca_block"]
Location = Literal["ffn", "ca", "ca_block", "text"]
KINDS: dict[Visual, tuple[str, ...]] = {"ffn": ("ff",), "ca": ("cross_attn", "attn"), "ca_block": ("block",)}


def sites_at(backbone: Backbone, location: Location) -> list[Site]:
    """A location's sites by layer: the image stream's feed-forward, cross-attention (or joint one) or whole block.

    `text` is the text encoders' blocks, which run once, before the first step.
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
        """`samples` prompts of each, round and round; variant 1 steers to the neutral prompts, 0 to the concept."""
        pairs = concept.pairs()
        rows = [pairs[i % len(pairs)] for i in range(samples)]
        shows, neutral = tuple(a for a, _ in rows), tuple(b for _, b in rows)
        return cls(shows, neutral) if variant == 1 else cls(neutral, shows)


def kept_out(
    backbone: Backbone, concept: Concept, sites: Iterable[Site], samples: int, seed: int, gate: Gate, against: Against
) -> TokenMeans | None:
    """The prompts that must not change, for a gate that tells the class steered from apart from them.

    None for one that looks at the class steered to instead (`against` target), or at no other class at all.
    """
    if against == "target" or gate in ("none", "region"):
        return None
    prompts = [concept.retain[i % len(concept.retain)] for i in range(samples)]
    return activations(backbone, prompts, sites, seed)


@torch.no_grad()
def activations(
    backbone: Backbone,
    prompts: Sequence[str],
    sites: Iterable[Site],
    seed: int,
    attached: Sequence[Intervention] = (),
) -> TokenMeans:
    """Pooled activations of one sample per prompt, the i-th of every class from the same noise."""
    sites = list(sites)
    settings, size = backbone.settings, backbone.settings.batch
    with ExitStack() as stack:
        for intervention in attached:
            stack.enter_context(intervention.attach(backbone))
        pool = stack.enter_context(keep_token_means(backbone, sites))
        drawn = any(site.stream != "encoder" for site in sites)  # text encoders are done before the first step
        for start in range(0, len(prompts), size):
            batch = prompts[start : start + size]
            seeds = [seed * 1_000_003 + start + i for i in range(len(batch))]
            condition = backbone.encode(batch)
            if drawn:
                backbone.sample(condition, seeds=seeds, steps=settings.steps, guidance=settings.guidance)
    return pool
