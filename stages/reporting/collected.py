"""A study with its finished runs, as tables see it: cells, results, and the names of rows that are references."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stages.metrics.base import Column

UNEDITED, ORACLE = "none", "oracle"  # the model as it was, and the one trained from scratch without the concept
REFERENCES = (UNEDITED, ORACLE)
FILTER = "word_filter"
CONTROLS = (FILTER, "neutral_rewrite", "random_direction", "random_weights")  # references that cost nothing
CHANCE = "chance"  # the key of an outlined backbone: label -> the share of one of its values
BREAKER, RETAIN = ("concept", "breaker_cosine"), ("retain", "retain_cosine")  # numbers that circuit breakers record


@dataclass(frozen=True, order=True)
class Cell:
    """One table of the study: a backbone and the concept that it is made to forget, or to learn.

    Backbones that are one network trained from several seeds are one: `backbone` is then the name of all.

    Cells are equal only if the first four fields are, so that one looked up by another's numbers cannot have
    another aim.
    """

    backbone: str
    concept: str
    aim: str  # "erase" or "learn", as in the concept's file
    seen: str  # the metric that says how often the concept is seen, such as "target_rate"
    chance: float | None = field(
        default=None, compare=False
    )  # the share of pictures that show it unasked, as the protocol declares

    def __str__(self) -> str:
        return f"{self.backbone}-{self.concept}"


@dataclass(frozen=True)
class Result:
    """One finished run."""

    cell: Cell
    method: str
    seed: int
    folder: Path  # of the run
    samples: Path  # of the run's samples in this study, with a folder for each prompt set
    rows: tuple[Mapping[str, Any], ...]  # of the metric files, and of numbers that training recorded
    outcomes: Mapping[str, Mapping[str, Sequence[float | None]]]  # prompts -> outcome -> one number per image
    records: Mapping[str, Mapping[str, Any]]  # stage -> its record
    backbone: str  # that was edited: the table's, or one of several of its architecture

    @property
    def attacks(self) -> Path:
        """Where the pictures of this study's attacks lie, a folder each."""
        return self.folder / "attacks" / self.samples.name

    def pictures(self, prompts: str) -> Path:
        """The folder of the pictures of one prompt set, or of what one attack found."""
        return self.samples / prompts if (self.samples / prompts).is_dir() else self.attacks / prompts

    @property
    def fit(self) -> Mapping[str, Any]:
        """The record of the training, or of the binarisation that stands for one; empty if nothing was trained."""
        return self.records.get("train") or self.records.get("binarize") or {}


@dataclass(frozen=True)
class Collected:
    """A study with its finished runs."""

    name: str
    description: str
    results: tuple[Result, ...]  # in the order of the study
    missing: tuple[str, ...]  # paths of the runs that are not finished
    families: Mapping[str, str]  # backbone -> family
    sensitive: Mapping[str, bool]  # concept -> whether its images are blurred
    columns: tuple[Column, ...] = ()  # of the tables, behind the concept's, as the metrics ask for them
    caveats: tuple[str, ...] = ()  # what a reader must know of a metric's numbers, one sentence per metric
    judges: tuple[str, ...] = ()  # the rate of each metric that says whether the concept is seen, such as "target_rate"
    tiles: int | None = None  # pictures of a row and prompt set on the page; None shares the page's budget

    def cells(self) -> list[Cell]:
        """The tables of the study, each once."""
        return list(dict.fromkeys(result.cell for result in self.results))

    def of(self, cell: Cell, method: str | None = None) -> list[Result]:
        """The results of one table, or of one of its methods."""
        return [result for result in self.results if result.cell == cell and method in (None, result.method)]

    def methods(self, cell: Cell) -> list[str]:
        """The methods of one table as the study lists them: behind the unedited model and what costs nothing, the
        oracle last.
        """
        names = dict.fromkeys(result.method for result in self.of(cell))
        first = {name: number for number, name in enumerate((UNEDITED, *CONTROLS), start=-9)}
        return sorted(names, key=lambda name: (first | {ORACLE: 1}).get(name, 0))

    def backbones(self, cell: Cell) -> list[str]:
        """The backbones of one table: one, or several of one architecture, trained from different seeds."""
        return sorted({result.backbone for result in self.of(cell)})

    def absent(self, cell: Cell) -> list[str]:
        """The runs of one table that are not finished."""
        heads = tuple(f"{backbone}/{cell.concept}/" for backbone in self.backbones(cell))
        return [name for name in self.missing if name.startswith(heads)]

    def seeds(self, cell: Cell) -> list[int]:
        """The seeds that any method of the table has."""
        return sorted({result.seed for result in self.of(cell)})
