"""How steering moves activations (B, N, D): one function per form, its strength 0 the identity."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor, nn

Form = Literal["shift", "attract", "project", "erase", "affine", "affine_shift", "affine_pooled", "network"]
Tensors = Mapping[str, Tensor]
ROUNDING = 1e-6  # prototypes that differ by a smaller share of their length are equal but for rounding


def shift(h: Tensor, by: Tensors, strength: float) -> Tensor:
    """h + s v: prototype and mean-difference steering, CASteer's addition."""
    return h + strength * by["direction"]


def attract(h: Tensor, by: Tensors, strength: float) -> Tensor:
    """h + s (mu_target - h)."""
    return h + strength * (by["target"] - h)


def project(h: Tensor, by: Tensors, strength: float) -> Tensor:
    """h + s <mu_target - h, u> u with u along mu_target - mu_source: attraction along the line of both prototypes.

    Prototypes that are equal but for rounding have no such line, and h stays.
    """
    length = by["direction"].norm()
    apart = length > ROUNDING * by["target"].norm()
    unit = torch.where(apart, by["direction"] / length, torch.zeros_like(by["direction"]))
    return h + strength * ((by["target"] - h) @ unit).unsqueeze(-1) * unit


def erase(h: Tensor, by: Tensors, strength: float) -> Tensor:
    """h - s max(0, <h, v>) v per token, v a unit vector; 1 projects, 2 reflects the concept. arXiv 2503.09630."""
    along = (h @ by["direction"]).clamp_min(0).unsqueeze(-1)
    return h - strength * along * by["direction"]


def affine(h: Tensor, by: Tensors, strength: float) -> Tensor:
    """(1 - s) h + s (w h + b) for values inside the source's support, neuron by neuron. arXiv 2410.23054."""
    return torch.where(_inside(h, by), _transported(h, by, strength), h)


def affine_shift(h: Tensor, by: Tensors, strength: float) -> Tensor:
    """All tokens moved as their mean is: h - m + T(m). What Linear-AcT does to convolutions' outputs."""
    mean = h.mean(1, keepdim=True)
    return torch.where(_inside(mean, by), h - mean + _transported(mean, by, strength), h)


def affine_pooled(h: Tensor, by: Tensors, strength: float) -> Tensor:
    """Every token transported where the tokens' mean is inside the support. Mean- and Gaussian-AcT on convolutions."""
    return torch.where(_inside(h.mean(1, keepdim=True), by), _transported(h, by, strength), h)


def network(h: Tensor, by: Tensors, strength: float) -> Tensor:
    """All tokens moved as a network moves their mean: h + s (T(m) - m). arXiv 2603.03163."""
    mean = h.mean(1, keepdim=True)
    return h + strength * (Transport.of(by)(mean) - mean)


FORMS: dict[Form, Callable[[Tensor, Tensors, float], Tensor]] = {
    "shift": shift,
    "attract": attract,
    "project": project,
    "erase": erase,
    "affine": affine,
    "affine_shift": affine_shift,
    "affine_pooled": affine_pooled,
    "network": network,
}


def renormed(moved: Tensor, original: Tensor) -> Tensor:
    """Moved tokens (..., D) at the lengths of the original ones."""
    before, after = (torch.linalg.vector_norm(part, dim=-1, keepdim=True) for part in (original, moved))
    return moved * (before / after.clamp_min(1e-12))


class Transport(nn.Module):
    """D -> hidden -> hidden -> D with GELU between: a map of pooled activations; `residual` adds its input.

    With zeros in its last layer a residual transport is the identity, while a plain one maps everything to zero.
    """

    def __init__(self, width: int, hidden: int = 128, *, residual: bool = True, norm: bool = False) -> None:
        super().__init__()
        self.residual = residual
        layers: list[nn.Module] = []
        for before in (width, hidden):
            layers += [nn.Linear(before, hidden), nn.GELU(), *([nn.RMSNorm(hidden)] if norm else [])]
        self.model = nn.Sequential(*layers, nn.Linear(hidden, width))

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) to (..., D)."""
        return self.model(x) + x if self.residual else self.model(x)

    def restart(self, generator: torch.Generator) -> Transport:
        """New hidden layers from the generator, and zeros in the last one."""
        linear = [layer for layer in self.model if isinstance(layer, nn.Linear)]
        for layer in linear[:-1]:
            nn.init.kaiming_uniform_(layer.weight, a=5**0.5, generator=generator)
            nn.init.zeros_(layer.bias)
        nn.init.zeros_(linear[-1].weight)
        nn.init.zeros_(linear[-1].bias)
        return self

    @classmethod
    def of(cls, tensors: Tensors) -> Transport:
        """The transport whose state these tensors are; `plain` marks one without the residual."""
        state = {name: value for name, value in tensors.items() if name.startswith("model.")}
        hidden, width = state["model.0.weight"].shape
        with torch.device("meta"):  # nothing is drawn or copied: the tensors themselves are put in
            transport = cls(width, hidden, residual="plain" not in tensors, norm="model.6.weight" in state)
        transport.load_state_dict(state, assign=True)
        return transport


def _inside(h: Tensor, by: Tensors) -> Tensor:
    low, high = by["support"]
    return (h > low) & (h < high)


def _transported(h: Tensor, by: Tensors, strength: float) -> Tensor:
    return strength * (by["weight"] * h + by["bias"]) + (1 - strength) * h
