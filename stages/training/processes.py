"""Several processes, one per device, through Accelerate: `accelerate launch -m stages.train ...`.

Each draws its own part of a batch; all that changes (weights, adversaries, optimizers) is equal on all of them, so that
the first alone writes. A single process calls no collective and does not import accelerate.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

if TYPE_CHECKING:
    from accelerate import Accelerator

Value = TypeVar("Value")


def count() -> int:
    """How many processes the launcher started; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """This process's number, from 0."""
    return int(os.environ.get("RANK", "0")) if count() > 1 else 0


def claim_device() -> None:
    """Makes `cuda` mean this process's own GPU; to be called before anything is put there."""
    if count() > 1 and torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))


def average_gradients(parameters: Iterable[Tensor]) -> None:
    """Replaces each gradient, of any shape, by its mean over all processes; does nothing in a single process.

    A parameter without a gradient in some processes counts as zeros there; without one in all, it keeps none.
    """
    if count() == 1:
        return
    parameters = list(parameters)
    here = torch.tensor([float(parameter.grad is not None) for parameter in parameters], device=_accelerator().device)
    counts = _accelerator().reduce(here, reduction="sum").tolist()
    for parameter, processes in zip(parameters, counts, strict=True):
        if processes:
            gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            parameter.grad = _accelerator().reduce(gradient, reduction="mean")


def average(value: float) -> float:
    """The mean of a number over all processes."""
    if count() == 1:
        return value
    here = torch.tensor(value, dtype=torch.float64, device=_accelerator().device)
    return float(_accelerator().reduce(here, reduction="mean"))


def agreed(value: Value) -> Value:
    """The first process's value, on all of them; its tensors should be on the CPU."""
    if count() == 1:
        return value
    from accelerate.utils import broadcast_object_list

    _accelerator()
    return broadcast_object_list([value])[0]


def wait() -> None:
    """Returns once every process has called it."""
    if count() > 1:
        _accelerator().wait_for_everyone()


@cache
def _accelerator() -> Accelerator:
    from accelerate import Accelerator

    return Accelerator(cpu=not torch.cuda.is_available())
