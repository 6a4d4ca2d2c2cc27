"""How far a training is: its losses, and a file that it can go on from."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from stages.store.files import replacing
from stages.training.processes import agreed, rank

log = logging.getLogger(__name__)


class Companion(Protocol):
    """Anything whose state a checkpoint can keep: a module, an optimizer, an adversary."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> Any: ...


@dataclass
class History:
    """The loss of every step, and the seconds that they took."""

    losses: list[float] = field(default_factory=list)
    seconds: float = 0.0


class Average:
    """Exponential moving averages of parameters, in their order and on their devices.

    The decay starts low: min(decay, (1 + step) / (10 + step)).
    """

    def __init__(self, parameters: Sequence[nn.Parameter], decay: float) -> None:
        self.parameters, self.decay = parameters, decay
        self.values = [parameter.detach().clone() for parameter in parameters]

    @torch.no_grad()
    def follow(self, step: int) -> None:
        """Takes in the values after a step, counted from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.values, [p.detach() for p in self.parameters], 1 - decay)

    def state_dict(self) -> dict[str, Any]:
        """The averages."""
        return {"values": self.values}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up the averages that `state_dict` returned."""
        self.values = [value.to(p.device) for value, p in zip(state["values"], self.parameters, strict=True)]


@dataclass
class Progress:
    """What changes in a training, and the file that keeps it; without a path nothing is kept.

    Of several processes the first one writes the file; all take up what it says.
    """

    parameters: list[nn.Parameter]
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LambdaLR
    companions: Sequence[Companion]
    path: Path | None
    pause: float  # seconds between two checkpoints
    history: History = field(default_factory=History)
    saved: float = field(default_factory=time.perf_counter)  # when the file was written last

    def save_if_due(self) -> None:
        """Writes the file, whole, if the last one is older than the pause."""
        if self.path and rank() == 0 and time.perf_counter() - self.saved > self.pause:
            self._save(self.path)
            self.saved = time.perf_counter()

    def finish(self) -> None:
        """Removes the file: the training is over."""
        if self.path:
            self.path.unlink(missing_ok=True)

    def resume(self) -> int:
        """Takes up what the file holds; the step to go on with, 0 if there is no file that fits."""
        content = agreed(self._read(self.path) if self.path and self.path.is_file() and rank() == 0 else None)
        if content is None:
            return 0
        assign(self.parameters, content["parameters"])
        self.optimizer.load_state_dict(content["optimizer"])
        for companion, state in zip(self.companions, content["companions"], strict=True):
            companion.load_state_dict(state)
        self.scheduler.last_epoch = content["scheduler"]
        for group, base in zip(self.optimizer.param_groups, self.scheduler.base_lrs, strict=True):
            group["lr"] = base * self.scheduler.lr_lambdas[0](self.scheduler.last_epoch)
        self.history.losses, self.history.seconds = content["losses"], content["seconds"]
        log.info("resuming at step %d", len(self.history.losses))
        return len(self.history.losses)

    def _save(self, path: Path) -> None:
        content = {
            "parameters": [p.detach() for p in self.parameters],
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.last_epoch,
            "losses": self.history.losses,
            "seconds": self.history.seconds,
            "companions": [companion.state_dict() for companion in self.companions],
        }
        with replacing(path) as temporary:
            torch.save(content, temporary)

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


@torch.no_grad()
def assign(parameters: Sequence[nn.Parameter], values: Sequence[Tensor]) -> None:
    """Copies values (an average, say) of the same shapes into parameters."""
    for parameter, value in zip(parameters, values, strict=True):
        parameter.copy_(value)
