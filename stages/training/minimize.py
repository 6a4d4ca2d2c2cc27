"""The one training loop: seeded per step, resumable, recorded."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from stages.seeds import Purpose, generator
from stages.store.record import Record
from stages.store.tracking import follow
from stages.training.float16 import LossScale
from stages.training.plateau import Plateau
from stages.training.processes import average, average_gradients, count, rank
from stages.training.progress import Average, Companion, History, Progress, assign
from stages.training.settings import Training

Loss = Callable[[int, torch.Generator], Tensor]  # step, its generator -> a scalar


def minimize(
    loss: Loss,
    parameters: Iterable[nn.Parameter],
    training: Training,
    *,
    seed: int,
    label: str = "train",
    companions: Sequence[Companion] = (),
) -> History:
    """Minimises `loss(step, generator)`; the generator is made from (seed, step), so a resumed run repeats the rest.

    Parameters must be float32. While a Record with a folder is current, progress is checkpointed there under `label`
    and taken up again, together with the `companions`: whatever else changes with the steps, such as an adversary. If
    gradients pass through float16, a LossScale belongs to them. Several processes draw each their own part of the
    batch and average losses and gradients; what `loss` changes must be equal on all, as the first one's checkpoint, the
    only one written, serves all. A Plateau among the companions may lower the learning rate and end the training early.
    Raises ValueError for parameters of another dtype; FloatingPointError if the loss is not finite, or the parameters
    after the last step.
    """
    parameters = _float32(parameters)
    optimizer = training.adam(parameters)
    scale = next((each for each in companions if isinstance(each, LossScale)), LossScale(False))
    plateau = next((each for each in companions if isinstance(each, Plateau)), None)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: training.rate(step) * (plateau.factor if plateau else 1.0)
    )
    averages = [Average(parameters, training.ema)] if training.ema else []
    kept = (Record.checkpoint(label), Record.between())
    progress = Progress(parameters, optimizer, scheduler, [*companions, *averages], *kept)
    first, history, started = progress.resume(), progress.history, time.perf_counter()
    before = history.seconds
    bar: dict[str, Any] = {"desc": label, "initial": first, "total": training.steps, "mininterval": 2, "leave": False}
    for step in tqdm(range(first, training.steps), **bar):
        total = average(_backward(loss, step, seed, training.accumulate, scale.factor))
        _check_loss(total, step, label)
        _update(parameters, optimizer, scale, training.clip)
        if plateau:
            plateau.follow(total)
        follow(label, step, parameters, loss=total, lr=optimizer.param_groups[0]["lr"])
        scheduler.step()
        for each in averages:
            each.follow(step)
        history.losses.append(total)
        history.seconds = before + time.perf_counter() - started
        if plateau and plateau.over:
            break
        if step + 1 < training.steps:
            progress.save_if_due()
    _check_parameters(parameters, len(history.losses) - 1, label)  # a plateau may have ended it early
    for each in averages:
        assign(parameters, each.values)
    progress.finish()
    Record.losses(label, history.losses, history.seconds)
    return history


def _float32(parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    """The parameters; ValueError unless all are float32."""
    parameters = list(parameters)
    for parameter in parameters:
        if parameter.dtype != torch.float32:
            raise ValueError(f"trained tensors must be float32, got {parameter.dtype}: AdamW breaks below that")
    return parameters


def _check_loss(total: float, step: int, label: str) -> None:
    if math.isfinite(total):
        return
    advice = "lower the learning rate"
    if step == 0:
        advice = "nothing was learned yet: look for numbers that the backbone's dtype cannot hold"
    raise FloatingPointError(f"{label}: the loss is {total} at step {step}; {advice}")


def _check_parameters(parameters: Sequence[Tensor], step: int, label: str) -> None:
    """A product of two such values must be a number too: a last step that went astray is seen by no loss."""
    if not all(bool(p.detach().square().sum().isfinite()) for p in parameters):
        raise FloatingPointError(f"{label}: parameters are not finite after step {step}; lower the learning rate")


def _backward(loss: Loss, step: int, seed: int, accumulate: int, scale: float) -> float:
    """Adds up the gradients of this process's parts of a step; the mean of their losses."""
    total = 0.0
    for part in range(accumulate):
        draw = (step * accumulate + part) * count() + rank()
        value = loss(step, generator(Purpose.STEP, seed, draw)) / accumulate
        (value * scale).backward()
        total += float(value.detach())
    return total


def _update(
    parameters: list[nn.Parameter], optimizer: torch.optim.Optimizer, scale: LossScale, clip: float | None
) -> None:
    """One step by the gradients of all processes, which end with it; none if they overflowed."""
    average_gradients(parameters)
    if scale.unscaled(parameters):
        if clip is not None:
            nn.utils.clip_grad_norm_(parameters, clip)
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
