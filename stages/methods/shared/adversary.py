"""An adversary of a method in training: numbers that move by gradients of their own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from stages.training.float16 import gradients
from stages.training.processes import average_gradients


class Adversary:
    """One tensor, of any shape, and the Adam that moves it; a companion of the training that it works against.

    `signed` hands Adam the gradient's signs alone, so that its first step is one of the fast gradient sign method.
    """

    def __init__(self, values: Tensor, lr: float, weight_decay: float = 0.0, *, signed: bool = False) -> None:
        self.values, self.signed = values.requires_grad_(), signed
        self.lr, self.weight_decay = lr, weight_decay
        self.rest()

    def rest(self) -> None:
        """Forgets the steps so far, but not where they led."""
        self.adam = torch.optim.Adam([self.values], lr=self.lr, weight_decay=self.weight_decay)

    def step(self, loss: Tensor, *, through_float16: bool = False, keep_graph: bool = False) -> None:
        """One step towards a smaller loss (a scalar), by the mean gradient of all processes."""
        (self.values.grad,) = gradients(loss, [self.values], through_float16=through_float16, keep_graph=keep_graph)
        average_gradients([self.values])
        if self.signed:
            self.values.grad = self.values.grad.sign()
        self.adam.step()

    def state_dict(self) -> dict[str, Any]:
        """Values and optimizer."""
        return {"values": self.values.detach(), "adam": self.adam.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up what `state_dict` returned."""
        self.values.data.copy_(state["values"])
        self.adam.load_state_dict(state["adam"])
