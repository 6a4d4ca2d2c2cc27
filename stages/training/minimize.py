"""The one training loop: seeded per step, resumable, recorded."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn
from tqdm import tqdm

from stages.store.files import replacing
from stages.store.record import Record
from stages.training.float16 import LossScale
from stages.training.processes import agreed, average, average_gradients, count, rank

log = logging.getLogger(__name__)

Loss = Callable[[int, torch.Generator], Tensor]


class Companion(Protocol):
    """Anything whose state a checkpoint can keep: a module, an optimizer."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> Any: ...


Schedule = Literal["constant", "cosine", "linear"]
OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}


@dataclass
class History:
    """What a training left: the loss of every step, the seconds, and if asked for averaged and intermediate values."""

    losses: list[float] = field(default_factory=list)
    seconds: float = 0.0
    average: list[Tensor] | None = None  # exponential moving averages, in the order of the parameters
    kept: dict[int, list[Tensor]] = field(default_factory=dict)  # step -> values after it, if asked for


def minimize(
    loss: Loss,
    parameters: Iterable[nn.Parameter],
    *,
    steps: int,
    lr: float,
    seed: int,
    schedule: Schedule = "constant",
    warmup: int = 0,
    weight_decay: float = 0.0,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    optimizer: Literal["adamw", "adam"] = "adamw",
    clip: float | None = None,
    ema: float | None = None,
    accumulate: int = 1,
    keep_every: int = 0,
    half: bool = False,
    companions: Sequence[Companion] = (),
    label: str = "train",
    checkpoint_every: float = 60.0,
) -> History:
    """Minimises `loss(step, generator)`; the generator is made from (seed, step), so a resumed run repeats the rest.

    Parameters must be float32. While a Record with a folder is current, progress is checkpointed there every
    `checkpoint_every` seconds under `label` and taken up again, together with the `companions` that `loss` changes on
    the way (an adversary and its optimizer). Several processes draw each their own part of the batch
    and average losses and gradients; what `loss` changes must be equal on all, as the first one's checkpoint, the only
    one written, serves all. `half` says that gradients pass through float16, where small ones vanish: see LossScale.
    Raises FloatingPointError when the loss is not finite.
    """
    parameters = _float32(parameters)
    adam = OPTIMIZERS[optimizer](parameters, lr=lr, weight_decay=weight_decay, betas=betas, eps=eps)
    scheduler = torch.optim.lr_scheduler.LambdaLR(adam, lambda step: rate(step, steps, warmup, schedule))
    scale = LossScale(half)
    companions = [*companions, scale] if half else companions
    history = History(average=[p.detach().clone() for p in parameters] if ema else None)
    progress, path = Progress(parameters, adam, scheduler, history, companions), Record.checkpoint(label)
    first = progress.resume(path)
    started = saved = time.perf_counter()
    before = history.seconds
    for step in tqdm(range(first, steps), label, initial=first, total=steps, mininterval=2, leave=False):
        total = average(_backward(loss, step, seed, accumulate, scale.factor))
        if not math.isfinite(total):
            raise FloatingPointError(f"{label}: the loss is {total} at step {step}; lower the learning rate")
        _update(parameters, adam, scale, clip)
        scheduler.step()
        _follow(parameters, history, step, ema, keep_every)
        history.losses.append(total)
        history.seconds = before + time.perf_counter() - started
        if path and rank() == 0 and time.perf_counter() - saved > checkpoint_every and step + 1 < steps:
            progress.save(path)
            saved = time.perf_counter()
    if path:
        path.unlink(missing_ok=True)
    Record.losses(label, history.losses, history.seconds)
    return history


def _float32(parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    """The parameters; ValueError unless all are float32."""
    parameters = list(parameters)
    for parameter in parameters:
        if parameter.dtype != torch.float32:
            raise ValueError(f"trained tensors must be float32, got {parameter.dtype}: AdamW breaks below that")
    return parameters


def _backward(loss: Loss, step: int, seed: int, accumulate: int, scale: float) -> float:
    """Adds up the gradients of this process's parts of a step; the mean of their losses."""
    total = 0.0
    for part in range(accumulate):
        draw = (step * accumulate + part) * count() + rank()
        value = loss(step, generator(seed, draw)) / accumulate
        (value * scale).backward()
        total += float(value.detach())
    return total


def _update(
    parameters: list[nn.Parameter], optimizer: torch.optim.Optimizer, scale: LossScale, clip: float | None
) -> None:
    """One step by the gradients of all processes, which end with it; none where they overflowed."""
    average_gradients(parameters)
    if scale.unscaled(parameters):
        if clip is not None:
            nn.utils.clip_grad_norm_(parameters, clip)
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)


@torch.no_grad()
def _follow(parameters: list[nn.Parameter], history: History, step: int, ema: float | None, keep_every: int) -> None:
    """Takes the values after a step into the history's average, and keeps them every `keep_every` steps."""
    if history.average is not None:
        decay = min(ema, (1 + step) / (10 + step))
        torch._foreach_lerp_(history.average, [p.detach() for p in parameters], 1 - decay)
    if keep_every and (step + 1) % keep_every == 0:
        history.kept[step + 1] = [p.detach().clone() for p in parameters]


def generator(seed: int, step: int) -> torch.Generator:
    """The owner of every random draw of one step."""
    return torch.Generator().manual_seed((seed * 1_000_003 + step) % 2**63)


def rate(step: int, steps: int, warmup: int, schedule: Schedule) -> float:
    """The factor on the learning rate at `step`."""
    if step < warmup:
        return (step + 1) / warmup
    if schedule == "constant":
        return 1.0
    done = min((step - warmup) / max(steps - warmup, 1), 1.0)
    return 0.5 * (1 + math.cos(math.pi * done)) if schedule == "cosine" else 1 - done


@torch.no_grad()
def assign(parameters: Iterable[nn.Parameter], values: Iterable[Tensor]) -> None:
    """Copies values (an average, say) into parameters."""
    for parameter, value in zip(parameters, values, strict=True):
        parameter.copy_(value)


@dataclass
class Progress:
    """What a training changes, as a file that it can go on from."""

    parameters: list[nn.Parameter]
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LambdaLR
    history: History
    companions: Sequence[Companion]

    def save(self, path: Path) -> None:
        """Writes the file whole."""
        content = {
            "parameters": [p.detach() for p in self.parameters],
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.last_epoch,
            "losses": self.history.losses,
            "seconds": self.history.seconds,
            "average": self.history.average,
            "kept": self.history.kept,
            "companions": [companion.state_dict() for companion in self.companions],
        }
        with replacing(path) as temporary:
            torch.save(content, temporary)

    def resume(self, path: Path | None) -> int:
        """Takes up what the first process's file holds; the step to go on with, 0 without one that fits."""
        content = agreed(self._read(path) if path and path.is_file() and rank() == 0 else None)
        if content is None:
            return 0
        assign(self.parameters, content["parameters"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.scheduler.last_epoch = content["scheduler"]
        for group, base in zip(self.optimizer.param_groups, self.scheduler.base_lrs, strict=True):
            group["lr"] = base * self.scheduler.lr_lambdas[0](self.scheduler.last_epoch)
        history = self.history
        history.losses, history.seconds = content["losses"], content["seconds"]
        history.average = content["average"] and self._beside(content["average"])
        history.kept = {step: self._beside(values) for step, values in content.get("kept", {}).items()}
        for companion, state in zip(self.companions, content.get("companions", ()), strict=True):
            companion.load_state_dict(state)
        log.info("resuming at step %d", len(history.losses))
        return len(history.losses)

    def _read(self, path: Path) -> dict[str, Any] | None:
        """The file's content on the CPU; None, and a warning, if it cannot be read or does not fit."""
        try:
            content = torch.load(path, weights_only=True, map_location="cpu")
        except Exception as error:
            log.warning("%s cannot be read (%s): starting afresh", path, error)
            return None
        shapes = [tuple(value.shape) for value in content["parameters"]] == [tuple(p.shape) for p in self.parameters]
        if not shapes or len(content.get("companions", ())) != len(self.companions):
            log.warning("%s is of another model: starting afresh", path)
            return None
        return content

    def _beside(self, values: Sequence[Tensor]) -> list[Tensor]:
        return [value.to(p.device) for value, p in zip(values, self.parameters, strict=True)]
