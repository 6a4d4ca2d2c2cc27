"""Curves and pictures of a training for whoever watches it; no result depends on them.

Trainings say `follow(label, step, loss=...)`. Without a tracker that does nothing. The files lie under logs/tracking/,
apart from artifacts/, so that no digest of a result has them. Nor has a digest of code the calls to this module
(`stages.params.source.OBSERVERS`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.params.layout import ARTIFACTS
from stages.params.tracker import Tracker

if TYPE_CHECKING:
    from accelerate.tracking import GeneralTracker
    from torch import Tensor

FOLDER = Path("logs") / "tracking"
PROJECT = "palimpsest"  # in which wandb keeps all runs

Painter = Callable[[Sequence[Any]], "Tensor | None"]  # trained parameters -> (N, 3, H, W) or (N, F, 3, H, W) in [0, 1]


class Tracking:
    """The curves of one command, a run of the tracker for each training in it."""

    def __init__(self, folder: Path, tracker: Tracker) -> None:
        self.folder, self.tracker = folder, tracker
        self.painter: Painter | None = None
        self.labels: list[str] = []  # of the trainings so far
        self.step, self.written = -1, set[str]()  # the last step, and what is known of it
        self.run: GeneralTracker | None = None  # of the last training

    def follow(self, label: str, step: int, parameters: Sequence[Any], values: dict[str, float]) -> None:
        """Takes in values of a step; pictures, too, if they are due."""
        again = step < self.step or (step == self.step and not self.written.isdisjoint(values))
        if self.run is None or label != self.labels[-1] or again:
            self._begin(label, step)
        if step != self.step:
            self.step, self.written = step, set()
        self.written |= values.keys()
        if self.run is None:
            return
        self.run.log(values, step=step)
        if parameters and self.painter and self.tracker.pictures and (step + 1) % self.tracker.pictures == 0:
            self._paint(self.run, self.painter(parameters), step)

    def finish(self) -> None:
        """Closes the run of the last training."""
        if self.run is not None:
            self.run.finish()
        self.run = None

    def _begin(self, label: str, step: int) -> None:
        """A run for a training; one that comes again under its label gets a number."""
        self.finish()
        self.labels.append(label)
        number, name = self.labels.count(label), label.replace("/", "-")
        self.step, self.written = -1, set()
        run = made(self.tracker.name, name if number == 1 else f"{name}-{number}", self.folder, step)
        run.start()
        self.run = run

    def _paint(self, run: GeneralTracker, pictures: Tensor | None, step: int) -> None:
        if pictures is None:
            return
        stills = pictures[:, pictures.shape[1] // 2] if pictures.ndim == 5 else pictures
        pixels = (stills.detach().float().cpu().clamp(0, 1) * 255).round().byte().movedim(1, -1).numpy()
        options = {"dataformats": "NHWC"} if self.tracker.name == "tensorboard" else {}
        run.log_images({"pictures": pixels}, step=step, **options)


_current: ContextVar[Tracking | None] = ContextVar("tracking", default=None)


@contextmanager
def tracking(out: Path, stage: str) -> Iterator[Tracking | None]:
    """Makes the environment's tracker current for the block; ValueError if it is not installed."""
    tracker = Tracker.current()
    current = None if tracker.name == "none" else Tracking(place(out) / stage, tracker)
    token = _current.set(current)
    try:
        yield current
    finally:
        _current.reset(token)
        if current is not None:
            current.finish()


def follow(label: str, step: int, parameters: Sequence[Any] = (), **values: float) -> None:
    """Tells the current tracker what a training has at a step, counted from 0; does nothing without one.

    With the trained `parameters`, it also draws pictures if they are due.
    """
    if (current := _current.get()) is not None:
        current.follow(label, step, parameters, values)


def paint_with(painter: Painter) -> None:
    """Gives the current tracker its way to draw; does nothing without one."""
    if (current := _current.get()) is not None:
        current.painter = painter


def place(out: Path) -> Path:
    """Where the curves of a result lie: artifacts/runs/x has logs/tracking/runs/x."""
    path = Path(os.path.relpath(out)) if Path(out).is_absolute() else Path(out)
    parts = [part for part in path.parts if part != ".."]
    return FOLDER.joinpath(*(parts[1:] if parts[:1] == [ARTIFACTS] else parts))


def made(tracker: str, name: str, folder: Path, step: int) -> GeneralTracker:
    """A run of an accelerate tracker that begins at a step, or goes on there after an interruption."""
    folder.mkdir(parents=True, exist_ok=True)
    if tracker == "csv":
        from stages.store.csv_tracker import CSVTracker

        return CSVTracker(name, folder, first=step)
    if tracker == "tensorboard":
        from accelerate.tracking import TensorBoardTracker

        return TensorBoardTracker(name, folder, purge_step=step or None)
    from accelerate.tracking import WandBTracker

    os.environ.setdefault("WANDB_MODE", "offline")
    return WandBTracker(PROJECT, dir=str(folder), name="/".join((*folder.relative_to(FOLDER).parts, name)))
