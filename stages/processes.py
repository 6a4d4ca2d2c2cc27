"""Several processes, one per device, through Accelerate: `accelerate launch -m stages.train ...`."""

from __future__ import annotations

import os
from collections.abc import Iterable

import torch
from torch import nn


def count() -> int:
    """How many processes the launcher started; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """This process's number, from 0."""
    return int(os.environ.get("RANK", "0")) if count() > 1 else 0


def claim_device() -> None:
    """Makes `cuda` mean this process's own GPU."""
    if count() > 1 and torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replaces each gradient by its mean over all processes; leaves a single process bit for bit alone."""
    if count() == 1:
        return
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=not torch.cuda.is_available())
    for parameter in parameters:
        if parameter.grad is not None:
            parameter.grad = accelerator.reduce(parameter.grad, reduction="mean")
