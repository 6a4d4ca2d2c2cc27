"""Everything that a study left in the artifacts tree, read once: numbers, per-image outcomes and records."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stages.params import load_params
from stages.params.layout import run_folder
from stages.params.study import Run, load_study
from stages.reporting.cosines import cosine_rows

UNEDITED, ORACLE = "none", "oracle"  # the model as it was, and the one trained from scratch without the concept
REFERENCES = (UNEDITED, ORACLE)


@dataclass(frozen=True, order=True)
class Cell:
    """One table of the study: a backbone and the concept it is made to forget, or to learn."""

    backbone: str
    concept: str
    aim: str = field(default="erase", compare=False)  # as in the concept's file
    seen: str = field(default="target_rate", compare=False)  # the metric that says how often the concept is seen

    def __str__(self) -> str:
        return f"{self.backbone}-{self.concept}"


@dataclass(frozen=True)
class Result:
    """One finished run: where it lies and what was measured on its samples."""

    cell: Cell
    method: str
    seed: int
    folder: Path
    samples: Path
    rows: tuple[Mapping[str, Any], ...]  # of the metric files, and of what training watched
    outcomes: Mapping[str, Mapping[str, Sequence[float | None]]]  # prompts -> what was judged -> one number per image
    records: Mapping[str, Mapping[str, Any]]  # stage -> its record

    @property
    def attacks(self) -> Path:
        """Where the pictures of this study's attacks lie, a folder each."""
        return self.folder / "attacks" / self.samples.name

    @property
    def fitting(self) -> Mapping[str, Any]:
        """The record of the job that made the intervention by itself; {} if the job that sampled fitted it."""
        return self.records.get("train") or self.records.get("binarize") or {}

    def pictures(self, prompts: str) -> Path:
        """The folder of the pictures of one prompt set, or of what one attack found."""
        return self.samples / prompts if (self.samples / prompts).is_dir() else self.attacks / prompts


@dataclass(frozen=True)
class Collected:
    """A study with its finished runs, in the order the study lists them, and the paths of those not there."""

    name: str
    description: str
    results: tuple[Result, ...]
    missing: tuple[str, ...]
    families: Mapping[str, str]  # of backbones
    sensitive: Mapping[str, bool]  # concepts

    def cells(self) -> list[Cell]:
        """The tables of the study, each once."""
        return list(dict.fromkeys(result.cell for result in self.results))

    def of(self, cell: Cell, method: str | None = None) -> list[Result]:
        """The results of one table, or of one of its methods."""
        return [result for result in self.results if result.cell == cell and method in (None, result.method)]

    def methods(self, cell: Cell) -> list[str]:
        """The methods of one table: the unedited model first, the oracle last, the others as the study lists them."""
        found = dict.fromkeys(result.method for result in self.of(cell))
        return sorted(found, key=lambda name: {UNEDITED: -1, ORACLE: 1}.get(name, 0))

    def seeds(self, cell: Cell) -> list[int]:
        """The seeds that any method of the table has."""
        return sorted({result.seed for result in self.of(cell)})


def collect(name: str, artifacts: Path | str, params: Path | str = "params") -> Collected:
    """Reads a study's results; ValueError when none is there, or one that is there lacks a metric file."""
    study = load_study(name, params)
    found = {run: _folder(artifacts, run) for run in study.runs}
    there = {run: folder for run, folder in found.items() if (folder / "metrics" / name).is_dir()}
    missing = tuple(_path(run) for run in study.runs if run not in there)
    if not there:
        raise ValueError(
            f"study {name}: none of its {len(found)} runs is measured under {artifacts}, such as {missing[0]}"
        )
    backbones, concepts = (sorted({getattr(run, part) for run in there}) for part in ("backbone", "concept"))
    about = {concept: load_params("concepts", concept, params) for concept in concepts}
    seen = _seen([folder / "metrics" / name for folder in there.values()], study.metrics)
    cells = {run: Cell(run.backbone, run.concept, about[run.concept].get("aim", "erase"), seen) for run in there}
    return Collected(
        name=name,
        description=str(load_params("studies", name, params).get("description", "")).strip(),
        results=tuple(_read(run, cells[run], folder, name, study.metrics) for run, folder in there.items()),
        missing=missing,
        families={backbone: load_params("backbones", backbone, params)["family"] for backbone in backbones},
        sensitive={concept: bool(content.get("sensitive")) for concept, content in about.items()},
    )


def _path(run: Run) -> str:
    return f"{run.backbone}/{run.concept}/{run.method}/{run.seed}"


def _folder(artifacts: Path | str, run: Run) -> Path:
    return run_folder(run.backbone, run.concept, run.method, run.seed, artifacts)


def _seen(measured: Sequence[Path], metrics: Sequence[str]) -> str:
    """The rate by which a study knows the concept: that of the first metric that sees it, as any of its files says."""
    outcomes = (read_json(folder / f"{name}.json").get("seen") for name in metrics for folder in measured)
    return f"{next(filter(None, outcomes), 'target')}_rate"


def _read(run: Run, cell: Cell, folder: Path, study: str, metrics: Sequence[str]) -> Result:
    samples, attacks, measured = (folder / kind / study for kind in ("samples", "attacks", "metrics"))
    files = [read_json(measured / f"{name}.json") for name in metrics]
    outcomes: dict[str, dict[str, Sequence[float | None]]] = {}
    for content in files:
        for prompts, judged in content.get("samples", {}).items():
            outcomes.setdefault(prompts, {}).update(judged)
    paths = [path for place in (folder, samples, attacks, measured) for path in sorted(place.glob("record-*.json"))]
    records = {path.stem.removeprefix("record-"): read_json(path) for path in paths}
    return Result(
        cell=cell,
        method=run.method,
        seed=run.seed,
        folder=folder,
        samples=samples,
        rows=(*(row for content in files for row in content["rows"]), *cosine_rows(records)),
        outcomes=outcomes,
        records=records,
    )


def read_json(path: Path) -> Any:
    """The content of a JSON file; ValueError names a file that is missing or broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path}: missing; `snakemake` makes it") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not valid JSON: {error}") from None
