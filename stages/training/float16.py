"""Gradients through float16, in which small ones vanish and large ones overflow: the loss is multiplied on the way."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

OVERFLOW = "gradients overflow in float16; choose another dtype for the backbone"


class LossScale:
    """A power of two that the loss is multiplied by and the gradients are divided by; 1 unless `through_float16`.

    The mean over a million latents has gradients near 1e-7 at the network's output, which float16 rounds to 0. As in
    arXiv 1710.03740, sec. 3.2: a step whose gradients overflow is left out and the scale halved, `patience` good steps
    in a row double it. It changes with the steps, so a training has it among its companions.
    """

    def __init__(self, through_float16: bool, patience: int = 2000) -> None:
        self.through_float16, self.patience = through_float16, patience
        self.factor, self.good = 2.0**16 if through_float16 else 1.0, 0

    def unscaled(self, parameters: Sequence[nn.Parameter]) -> bool:
        """Divides the gradients (any shapes); False if they overflowed, FloatingPointError if they do at any scale."""
        if not self.through_float16:
            return True
        gradients = [p.grad for p in parameters if p.grad is not None]
        finite = _finite(gradients)
        if finite:
            torch._foreach_div_(gradients, self.factor)
        elif self.factor < 2.0**-16:
            raise FloatingPointError(OVERFLOW)
        self.good = self.good + 1 if finite else 0
        if not finite or self.good == self.patience:
            self.factor, self.good = self.factor * (2.0 if finite else 0.5), 0
        return finite

    def state_dict(self) -> dict[str, Any]:
        """The scale, and the good steps since it changed."""
        return {"factor": self.factor, "good": self.good}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up what `state_dict` returned."""
        self.factor, self.good = state["factor"], state["good"]


def gradients(
    value: Tensor,
    tensors: Sequence[Tensor],
    *,
    through_float16: bool = False,
    keep_graph: bool = False,
    unread: bool = False,
) -> Sequence[Tensor]:
    """The gradients of an adversary's loss (a scalar) in tensors of any shapes, of the same shapes.

    Tensors that the loss does not depend on have zeros if they may be `unread`, and are an error if not. Through
    float16, gradients of the first of a few scales at which they are finite; FloatingPointError if there is none.
    """

    def gradient(value: Tensor, keep: bool) -> Sequence[Tensor]:
        return torch.autograd.grad(value, tensors, retain_graph=keep, allow_unused=unread, materialize_grads=unread)

    if not through_float16:
        return gradient(value, keep_graph)
    for factor in (2.0**16, 2.0**12, 2.0**8, 2.0**4, 1.0):
        scaled = gradient(value * factor, keep_graph or factor > 1)
        if _finite(scaled):
            return [part / factor for part in scaled]
    raise FloatingPointError(OVERFLOW)


def _finite(gradients: Iterable[Tensor]) -> bool:
    return all(bool(gradient.isfinite().all()) for gradient in gradients)
