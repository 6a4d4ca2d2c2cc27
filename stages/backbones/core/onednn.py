"""Linear layers of diffusers' and transformers' models, multiplied by oneDNN on a CPU."""

from __future__ import annotations

from torch import nn

from Infinity.linear import Linear


def multiply_by_onednn(model: nn.Module) -> None:
    """Makes every plain linear layer of `model` an `Infinity.linear.Linear`, in place; names and weights stay.

    Float32 on a CPU then takes oneDNN, which is faster and equal up to rounding; every other dtype and device takes
    torch's own path.
    """
    for module in model.modules():
        if type(module) is nn.Linear:
            module.__class__ = Linear
