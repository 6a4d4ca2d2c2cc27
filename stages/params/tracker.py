"""Which tracker follows the trainings: read from params/pipeline.yaml, handed to jobs by their environment.

The environment is no part of a rule's parameters, so another tracker runs nothing again.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stages.params.load import suggestion

TRACKERS = ("none", "csv", "tensorboard", "wandb")
EXTRAS = ("tensorboard", "wandb")  # trackers that are a package of their own, and the optional extra that brings it
TRACKER, PICTURES = "PALIMPSEST_TRACKER", "PALIMPSEST_TRACKER_PICTURES"


def installed(package: str) -> bool:
    """Whether a package can be imported; nothing is."""
    return importlib.util.find_spec(package) is not None


@dataclass(frozen=True)
class Tracker:
    """What follows a training."""

    name: str = "none"  # one of TRACKERS
    pictures: int = 0  # steps from one set of pictures to the next; 0: none

    def __post_init__(self) -> None:
        if self.name not in TRACKERS:
            raise ValueError(f"tracker: no tracker {self.name!r}{suggestion(self.name, TRACKERS)}")
        if self.name in EXTRAS and not installed(self.name):
            raise ValueError(f"tracker: {self.name} is not installed: pip install 'palimpsest[{self.name}]'")
        if self.pictures < 0:
            raise ValueError(f"tracker_pictures must be 0 or more, got {self.pictures}")
        if self.pictures and self.name == "none":
            raise ValueError("tracker_pictures: without a tracker nothing takes them; choose csv, tensorboard or wandb")

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Tracker:
        """The tracker of params/pipeline.yaml; ValueError for one that is not there or not installed."""
        return cls(str(config.get("tracker", "none")), int(config.get("tracker_pictures", 0)))

    @classmethod
    def current(cls) -> Tracker:
        """The tracker that the environment names; ValueError as of `of`."""
        pictures = os.environ.get(PICTURES, "0")
        if not pictures.isdecimal():
            raise ValueError(f"{PICTURES} must be a number of steps, got {pictures!r}")
        return cls(os.environ.get(TRACKER, "none"), int(pictures))

    def environment(self) -> dict[str, str]:
        """What jobs read it from."""
        return {TRACKER: self.name, PICTURES: str(self.pictures)}
