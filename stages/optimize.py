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

from stages.files import replacing
from stages.processes import agreed, average, average_gradients, count, rank
from stages.record import Record

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
    parameters = list(parameters)
    for parameter in parameters:
        if parameter.dtype != torch.float32:
            raise ValueError(f"trained tensors must be float32, got {parameter.dtype}: AdamW breaks below that")
    settings = {"lr": lr, "weight_decay": weight_decay, "betas": betas, "eps": eps}
    adam = OPTIMIZERS[optimizer](parameters, **settings)
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
        average_gradients(parameters)
        if scale.fits(parameters):
            if clip is not None:
                nn.utils.clip_grad_norm_(parameters, clip)
            adam.step()
        scheduler.step()
        adam.zero_grad(set_to_none=True)
        if history.average is not None:
            _average(history.average, parameters, min(ema, (1 + step) / (10 + step)))
        if keep_every and (step + 1) % keep_every == 0:
            history.kept[step + 1] = [p.detach().clone() for p in parameters]
        history.losses.append(total)
        history.seconds = before + time.perf_counter() - started
        if path and rank() == 0 and time.perf_counter() - saved > checkpoint_every and step + 1 < steps:
            progress.save(path)
            saved = time.perf_counter()
    if path:
        path.unlink(missing_ok=True)
    Record.losses(label, history)
    return history


def _backward(loss: Loss, step: int, seed: int, accumulate: int, scale: float) -> float:
    """Adds up the gradients of this process's parts of a step; the mean of their losses."""
    total = 0.0
    for part in range(accumulate):
        draw = (step * accumulate + part) * count() + rank()
        value = loss(step, generator(seed, draw)) / accumulate
        (value * scale).backward()
        total += float(value.detach())
    return total


class LossScale:
    """A power of two that the loss is multiplied by and the gradients are divided by; 1 unless `half`.

    The mean over a million latents has gradients near 1e-7 at the network's output, which float16 rounds to 0. As in
    arXiv 1710.03740, sec. 3.2: a step whose gradients overflow is left out and the scale halved, `patience` good steps
    in a row double it.
    """

    def __init__(self, half: bool, patience: int = 2000) -> None:
        self.half, self.patience = half, patience
        self.factor, self.good = 2.0**16 if half else 1.0, 0

    def fits(self, parameters: Sequence[nn.Parameter]) -> bool:
        """Divides the gradients; False if they overflowed, FloatingPointError if they do at any scale."""
        if not self.half:
            return True
        gradients = [p.grad for p in parameters if p.grad is not None]
        finite = all(bool(gradient.isfinite().all()) for gradient in gradients)
        if finite:
            torch._foreach_div_(gradients, self.factor)
        elif self.factor < 2.0**-16:
            raise FloatingPointError("gradients overflow in float16; choose another dtype for the backbone")
        self.good = self.good + 1 if finite else 0
        if not finite or self.good == self.patience:
            self.factor, self.good = self.factor * (2.0 if finite else 0.5), 0
        return finite

    def state_dict(self) -> dict[str, Any]:
        """Scale and good steps since it changed."""
        return {"factor": self.factor, "good": self.good}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """What `state_dict` returned."""
        self.factor, self.good = state["factor"], state["good"]


def gradients(
    value: Tensor, tensors: Sequence[Tensor], *, half: bool = False, keep_graph: bool = False
) -> Sequence[Tensor]:
    """The gradients of an adversary's loss; through float16 at the first of a few scales at which they are finite."""
    if not half:
        return torch.autograd.grad(value, tensors, retain_graph=keep_graph)
    for factor in (2.0**16, 2.0**12, 2.0**8, 2.0**4):
        found = torch.autograd.grad(value * factor, tensors, retain_graph=True)
        if all(bool(gradient.isfinite().all()) for gradient in found):
            return [gradient / factor for gradient in found]
    return torch.autograd.grad(value, tensors, retain_graph=keep_graph)


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


@torch.no_grad()
def _average(average: list[Tensor], parameters: list[nn.Parameter], decay: float) -> None:
    torch._foreach_lerp_(average, [p.detach() for p in parameters], 1 - decay)


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
        if [tuple(value.shape) for value in content["parameters"]] != [tuple(p.shape) for p in self.parameters]:
            log.warning("%s is of another model: starting afresh", path)
            return None
        return content

    def _beside(self, values: Sequence[Tensor]) -> list[Tensor]:
        return [value.to(p.device) for value, p in zip(values, self.parameters, strict=True)]
