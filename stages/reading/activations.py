"""Activations of a running backbone: whole, or their means over tokens, sorted by site, step and role."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from stages.backbones.core.base import Backbone
from stages.control.edits import edit_activations
from stages.control.sites import Moment, Site
from stages.control.words import tokenize

Wanted = Callable[[Site, int, str], bool]  # whether a site's means at a step, in a role's rows, are to be kept


def of_prompts(site: Site, step: int, role: str) -> bool:
    """Whether means are of the prompts' own rows, and not of guidance's other half."""
    return role == "cond"


class TokenMeans:
    """Means over tokens in float32, one row per sample in the order of computation."""

    def __init__(self) -> None:
        self._rows: dict[tuple[Site, int, str], list[Tensor]] = defaultdict(list)

    def add(self, site: Site, step: int, role: str, rows: Tensor) -> None:
        """Appends rows (n, D) of n samples."""
        self._rows[site, step, role].append(rows)

    def get(self, site: Site, step: int, role: str = "cond") -> Tensor:
        """All rows (n, D); KeyError if that site was not computed at that step for that role."""
        if (site, step, role) not in self._rows:
            raise KeyError(f"no activations of {site} at step {step} for {role}; have steps {self.steps(site, role)}")
        return torch.cat(self._rows[site, step, role])

    def steps(self, site: Site, role: str = "cond") -> list[int]:
        """The steps at which a site was computed for that role."""
        return sorted({step for place, step, other in self._rows if place == site and other == role})


@contextmanager
def keep_token_means(
    backbone: Backbone, sites: Iterable[Site], wanted: Wanted = lambda site, step, role: True
) -> Iterator[TokenMeans]:
    """Keeps the token means of each site while open, behind the edits that are attached already; only those `wanted`.

    KeyError for a site that the backbone does not have.
    """
    means = TokenMeans()

    def keep(h: Tensor, at: Moment) -> Tensor:
        site = at.place()
        for step, tokens in at.spans():
            roles = {role: rows for role, rows in at.roles.items() if wanted(site, step, role)}
            if roles:
                mean = token_mean(h.detach(), tokens, real_tokens(backbone, h, at))
            for role, rows in roles.items():
                means.add(site, step, role, mean[rows])
        return h

    with edit_activations(backbone, dict.fromkeys(sites, keep)):
        yield means


class Activations:
    """The activations of the last call of the network."""

    def __init__(self) -> None:
        self.states: dict[Site, Tensor] = {}  # (B, L, D) with their graph
        self.lengths: dict[Site, list[int]] = {}  # tokens of each step in L
        self.steps: list[int] = []  # the steps that the call computed


@contextmanager
def keep_activations(backbone: Backbone, sites: Iterable[Site]) -> Iterator[Activations]:
    """Keeps the whole activation of each site while open; KeyError for a site that the backbone does not have."""
    activations = Activations()

    def keep(h: Tensor, at: Moment) -> Tensor:
        site = at.place()
        activations.states[site] = h
        activations.steps = [step for step, _ in at.spans()]
        activations.lengths[site] = list(at.lengths) or [h.shape[1]]
        return h

    with edit_activations(backbone, dict.fromkeys(sites, keep)):
        yield activations


def token_mean(h: Tensor, tokens: slice = slice(None), mask: Tensor | None = None) -> Tensor:
    """The mean over tokens of (B, L, D), in float32, (B, D); of the real ones alone if a mask (B, L) is given.

    (B, D) stays as it is.
    """
    if h.ndim == 2:
        return h.float()
    h = h[:, tokens].float()
    if mask is None:
        return h.mean(1)
    weight = mask[:, tokens, None].to(h)
    return (h * weight).sum(1) / weight.sum(1).clamp_min(1)


def real_tokens(backbone: Backbone, h: Tensor, at: Moment) -> Tensor | None:
    """Which tokens (B, L) of a text encoder's activations (B, L, D) are not padding; None in the network itself."""
    if at.site is None or at.site.stream != "encoder" or not at.prompts:
        return None
    part = backbone.addresses.tap(at.site).module.partition(".")[0]
    return token_mask(backbone, part, [prompt.text for prompt in at.prompts], h.shape[1]).to(h.device)


def token_mask(backbone: Backbone, part: str, texts: Sequence[str], length: int) -> Tensor:
    """Which of `length` tokens of each text are real for the named text encoder, (B, length)."""
    tokenizer = backbone.texts.tokenizers[part]
    real = torch.tensor([tokenize(tokenizer, text, length).real for text in texts])
    return torch.arange(length) < real[:, None]
