"""Reading activations while a backbone runs: whole, or pooled over tokens and sorted by site, step and role."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from stages.control.edits import edit_activations
from stages.control.sites import Moment, Site
from stages.control.words import tokenize

if TYPE_CHECKING:
    from stages.backbones.core.base import Backbone


class Pool:
    """Token means in float32, one row per sample in the order it was computed."""

    def __init__(self) -> None:
        self._rows: dict[tuple[Site, int, str], list[Tensor]] = defaultdict(list)

    def add(self, site: Site, step: int, role: str, rows: Tensor) -> None:
        """Keeps rows (n, D)."""
        self._rows[site, step, role].append(rows)

    def get(self, site: Site, step: int, role: str = "cond") -> Tensor:
        """All rows (n, D); KeyError when nothing of the kind was seen."""
        if (site, step, role) not in self._rows:
            raise KeyError(f"no activations of {site} at step {step} for {role}; have steps {self.steps(site, role)}")
        return torch.cat(self._rows[site, step, role])

    def steps(self, site: Site, role: str = "cond") -> list[int]:
        """The steps at which a site was seen."""
        return sorted({step for where, step, who in self._rows if where == site and who == role})


@contextmanager
def pooling(backbone: Backbone, sites: Iterable[Site]) -> Iterator[Pool]:
    """Records the token means of each site while open, after whatever is attached already."""
    pool = Pool()

    def keep(h: Tensor, at: Moment) -> Tensor:
        for step, tokens in at.spans():
            pooled = token_mean(h.detach(), tokens, real_tokens(backbone, h, at))
            for role, rows in at.roles.items():
                pool.add(at.site, step, role, pooled[rows])
        return h

    with edit_activations(backbone, dict.fromkeys(sites, keep)):
        yield pool


class Reading:
    """The activations (B, L, D) of the last call, with their graph, its steps, and the tokens of each at every site."""

    def __init__(self) -> None:
        self.states: dict[Site, Tensor] = {}
        self.lengths: dict[Site, list[int]] = {}
        self.steps: list[int] = []


@contextmanager
def reading(backbone: Backbone, sites: Iterable[Site]) -> Iterator[Reading]:
    """Keeps the whole activation of each site while open."""
    found = Reading()

    def keep(h: Tensor, at: Moment) -> Tensor:
        found.states[at.site] = h
        found.steps = [step for step, _ in at.spans()]
        found.lengths[at.site] = list(at.lengths) or [h.shape[1]]
        return h

    with edit_activations(backbone, dict.fromkeys(sites, keep)):
        yield found


def token_mean(h: Tensor, tokens: slice = slice(None), mask: Tensor | None = None) -> Tensor:
    """The mean over tokens in float32, (B, D); of the real ones where a mask (B, L) says so. (B, D) stays as it is."""
    if h.ndim == 2:
        return h.float()
    h = h[:, tokens].float()
    if mask is None:
        return h.mean(1)
    weight = mask[:, tokens, None].to(h)
    return (h * weight).sum(1) / weight.sum(1).clamp_min(1)


def real_tokens(backbone: Backbone, h: Tensor, at: Moment) -> Tensor | None:
    """Which tokens (B, L) of a text encoder's activations are not padding; None in the network itself."""
    if at.site is None or at.site.stream != "encoder" or not at.prompts:
        return None
    part = backbone.tap(at.site).module.partition(".")[0]
    return token_mask(backbone, part, [prompt.text for prompt in at.prompts], h.shape[1]).to(h.device)


def token_mask(backbone: Backbone, part: str, texts: Sequence[str], length: int) -> Tensor:
    """Which of `length` tokens of each text are real for the named text encoder, (B, length)."""
    tokenizer = backbone.tokenizers()[part]
    real = torch.tensor([tokenize(tokenizer, text, length).real for text in texts])
    return torch.arange(length) < real[:, None]
