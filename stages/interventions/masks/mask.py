"""Masks on attention heads, feed-forward channels, norms and linear outputs: arXiv 2507.13386."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor, nn

from stages.control.edits import edit_activations
from stages.control.sites import Edit, Moment, Site, Tap
from stages.interventions.base import Intervention
from stages.objectives import hard_concrete, masked
from stages.seeds import Purpose, hashed

if TYPE_CHECKING:
    from stages.backbones.core.base import Backbone

Place = Site | Tap
Mode = Literal["sigmoid", "hard_concrete", "binary", "thresholded"]
Uniforms = Callable[[str, int, int], Tensor]  # (mask's name, sampler step, size) -> numbers in [0, 1)


class Mask(Intervention):
    """Multiplies channels by a function of one score each, under a name for each layer.

    A name owns one score per channel, or per attention head, and the places (sites, or taps of modules that the site
    table does not list) that share them. `mode`: sigmoid(score); hard concrete, which draws from the uniforms that
    `noisy` sets and is at its median without; the score itself (binary); or score > 0 (thresholded).
    """

    def __init__(
        self,
        scores: Mapping[str, Tensor],
        places: Mapping[str, Sequence[Place]],
        mode: Mode = "thresholded",
        *,
        noise: float = 0.5,
        strength: float = 1.0,
    ) -> None:
        super().__init__()
        if mode not in get_args(Mode):
            raise ValueError(f"mode must be one of {', '.join(get_args(Mode))}, got {mode!r}")
        if set(scores) != set(places):
            raise ValueError(f"masks and their places differ in {', '.join(sorted(set(scores) ^ set(places)))}")
        self.names, self.mode, self.noise, self.strength = list(scores), mode, noise, strength
        self.places = {name: tuple(places[name]) for name in self.names}
        self.scores = nn.ParameterList(
            score if isinstance(score, nn.Parameter) else nn.Parameter(score, requires_grad=False)
            for score in scores.values()
        )
        self.uniforms: Uniforms | None = None
        self.kept: dict[int, dict[str, Tensor]] = {}  # training step -> scores at that step

    @classmethod
    def fresh(
        cls, sizes: Mapping[str, int], places: Mapping[str, Sequence[Place]], mode: Mode, *, start: float, noise: float
    ) -> Mask:
        """Trainable scores, all at `start`."""
        scores = {name: nn.Parameter(torch.full((size,), float(start))) for name, size in sizes.items()}
        return cls(scores, places, mode, noise=noise)

    def items(self) -> Iterator[tuple[str, Tensor]]:
        """Names with their scores."""
        return zip(self.names, self.scores, strict=True)

    def mask(self, name: str, step: int = 0) -> Tensor:
        """The mask of that name at a sampler step, float32."""
        score = self.scores[self.names.index(name)]
        if self.mode == "sigmoid":
            mask = torch.sigmoid(score)
        elif self.mode == "hard_concrete":
            mask = hard_concrete(score, self._uniform(name, step, score), self.noise)
        else:
            mask = score if self.mode == "binary" else (score > 0).to(score)
        return mask if self.strength == 1 else 1 + self.strength * (mask - 1)

    def attach(self, backbone: Backbone) -> AbstractContextManager[None]:
        """Masks every place; does nothing at strength 0."""
        if self.strength == 0:
            return nullcontext()
        edits = {place: self._edit(name) for name in self.names for place in self.places[name]}
        return edit_activations(backbone, edits)

    @contextmanager
    def noisy(self, uniforms: Uniforms) -> Iterator[None]:
        """Draws the hard concrete's noise from `uniforms` while open."""
        before, self.uniforms = self.uniforms, uniforms
        try:
            yield
        finally:
            self.uniforms = before

    def with_scores(self, scores: Mapping[str, Tensor], mode: Mode) -> Mask:
        """The same places with other scores that do not train."""
        return Mask({n: scores[n].detach().clone() for n in self.names}, self.places, mode, noise=self.noise)

    def tensors(self) -> dict[str, Tensor]:
        """The scores by name, those kept on the way under `<step>/`."""
        kept = {f"{step}/{name}": score for step, scores in self.kept.items() for name, score in scores.items()}
        return dict(self.items()) | kept

    def spec(self) -> dict[str, Any]:
        """Mode, noise, strength and places."""
        places = {name: [_written(place) for place in places] for name, places in self.places.items()}
        return {"mode": self.mode, "noise": self.noise, "strength": self.strength, "places": places}

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], spec: Mapping[str, Any]) -> Mask:
        """Scores that do not train."""
        places = {name: [_read(place) for place in places] for name, places in spec["places"].items()}
        missing = [name for name in places if name not in tensors]
        if missing:
            raise ValueError(f"no scores of the masks {', '.join(missing[:3])}")
        mask = cls(
            {n: tensors[n] for n in places}, places, spec["mode"], noise=spec["noise"], strength=spec["strength"]
        )
        for step in sorted({int(key.partition("/")[0]) for key in tensors if "/" in key}):
            mask.kept[step] = {name: tensors[f"{step}/{name}"] for name in places}
        return mask

    def _edit(self, name: str) -> Edit:
        def edit(activation: Tensor, at: Moment) -> Tensor:
            return masked(activation, self.mask(name, at.step).to(activation.device))

        return edit

    def _uniform(self, name: str, step: int, score: Tensor) -> Tensor:
        if self.uniforms is None:
            return torch.full_like(score, 0.5)
        return self.uniforms(name, step, len(score)).to(score)


def replayable(seed: int) -> Uniforms:
    """Uniform numbers that depend on the seed, the mask's name and the sampler's step alone: asked again, the same."""

    def draw(name: str, step: int, size: int) -> Tensor:
        owner = torch.Generator().manual_seed(hashed(Purpose.MASK, seed, step, name))
        return torch.rand(size, generator=owner)

    return draw


def _written(place: Place) -> str | dict[str, Any]:
    return str(place) if isinstance(place, Site) else asdict(place)


def _read(place: str | Mapping[str, Any]) -> Place:
    if isinstance(place, str):
        return Site.parse(place)
    return Tap(**{**place, "tokens": tuple(place["tokens"])})
