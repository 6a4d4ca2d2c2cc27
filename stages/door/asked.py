"""What an erasure is asked for, and the names that follow from it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from stages.params.layout import run_folder
from stages.params.load import check_name, load_params


@dataclass(frozen=True)
class Asked:
    """What is to be erased, from what, how, and where the result goes."""

    backbone: str  # a file of params/backbones/
    words: str  # what the concept is called; on a small world a word of its pictures, such as `red`
    out: Path | str  # a folder that is empty or not there
    kind: str = ""  # object, style, person, attribute or sensitive; needed for a concept that is not there yet
    method: str = "esd_x"  # a file of params/methods/
    seed: int = 0
    pictures: int = 24  # to measure on, of prompts for the concept and of others each
    synonyms: tuple[str, ...] = ()  # other words for it, which are measured
    neutral: str = ""  # what stands in its place, such as `an animal`; empty: what the kind has
    name: str = ""  # of the concept's file; empty: the words
    threads: int = 1

    def concept(self) -> str:
        """The name of the concept's file; ValueError for words that make none."""
        name = self.name or re.sub(r"[^a-z0-9]+", "_", self.words.lower()).strip("_")
        if not name:
            raise ValueError(f"{self.words!r} makes no file's name; give one with --name")
        return check_name(name, "concept")

    def study(self) -> str:
        """The name of the study's file."""
        return re.sub(r"[^a-z0-9_.-]+", "-", f"{self.concept()}_{self.backbone}_{self.method}")

    def trained(self) -> bool:
        """Whether the method has a training of its own, rather than being fitted where it is sampled."""
        return load_params("methods", self.method).get("trained") is not False

    def folder(self, method: str = "") -> Path:
        """The folder of the run, or of another method's beside it."""
        return run_folder(self.backbone, self.concept(), method or self.method, self.seed)

    def made(self) -> Path:
        """The folder that the intervention lies in."""
        return self.folder() if self.trained() else self.folder() / "samples" / self.study()
