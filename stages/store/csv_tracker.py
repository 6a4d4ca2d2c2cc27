"""Curves in a CSV file and pictures in a folder: a tracker that needs nothing but accelerate."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from accelerate.tracking import GeneralTracker
from PIL import Image

HEAD = ("step", "name", "value")


class CSVTracker(GeneralTracker):
    """`<run>.csv` with a row (step, name, value) for each number, and `<run>/<name>-<step>-<i>.png`.

    A run that goes on at step `first` keeps the rows before it; one that begins at 0 starts the file afresh.
    """

    name = "csv"
    requires_logging_directory = True

    def __init__(self, run_name: str, logging_dir: Path, first: int = 0) -> None:
        super().__init__()
        self.path, self.pictures, self.first = logging_dir / f"{run_name}.csv", logging_dir / run_name, first

    @property
    def tracker(self) -> Path:
        """The file."""
        return self.path

    def start(self) -> None:
        """Opens the file."""
        rows = [row for row in self._rows() if int(row[0]) < self.first]
        self.stream = self.path.open("w", newline="", encoding="utf-8")
        self.writer = csv.writer(self.stream)
        self.writer.writerows([HEAD, *rows])

    def log(self, values: Mapping[str, float], step: int | None = None, **kwargs: Any) -> None:
        """Adds a row for each value; a float's text gives the very number back."""
        self.writer.writerows((step, name, repr(float(value))) for name, value in values.items())
        self.stream.flush()

    def log_images(self, values: Mapping[str, np.ndarray], step: int | None = None, **kwargs: Any) -> None:
        """Writes pictures, bytes (N, H, W, 3)."""
        self.pictures.mkdir(exist_ok=True)
        for name, pictures in values.items():
            for i, picture in enumerate(pictures):
                Image.fromarray(picture).save(self.pictures / f"{name}-{step:06d}-{i}.png")

    def finish(self) -> None:
        """Closes the file."""
        self.stream.close()

    def _rows(self) -> list[list[str]]:
        if not self.first or not self.path.is_file():
            return []
        with self.path.open(newline="", encoding="utf-8") as stream:
            return [row for row in csv.reader(stream) if len(row) == len(HEAD) and row[0].isdecimal()]
