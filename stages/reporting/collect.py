"""A study's results as they lie in the artifacts tree, read once: numbers, per-image outcomes and records."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.metrics.base import Column
from stages.params import load_params
from stages.params.alike import tables
from stages.params.layout import run_folder
from stages.params.protocol import chance_of, load_protocol
from stages.params.study import Run, load_study
from stages.reporting.collected import BREAKER, CHANCE, RETAIN, Cell, Collected, Result

Contents = Mapping[str, Mapping[str, Any]]  # metric -> the content of its file for one run


@dataclass(frozen=True)
class Outline:
    """What a report knows of a study beside its results: enough to read them where params/ has changed since."""

    name: str
    description: str
    runs: tuple[Run, ...]  # in the order of the study
    metrics: tuple[str, ...]
    backbones: Mapping[str, Mapping[str, Any]]  # backbone -> its file, and the chance levels of its world
    concepts: Mapping[str, Mapping[str, Any]]  # concept -> its file


def collect(name: str, artifacts: Path | str, params: Path | str = "params") -> Collected:
    """Reads a study's results; ValueError when none is there, or one that is there lacks a metric file."""
    return gather(outline(name, params), artifacts)


def outline(name: str, params: Path | str = "params") -> Outline:
    """The outline of params/studies/<name>.yaml."""
    study = load_study(name, params)
    backbones, concepts = (sorted({getattr(run, part) for run in study.runs}) for part in ("backbone", "concept"))
    return Outline(
        name=name,
        description=str(load_params("studies", name, params).get("description", "")).strip(),
        runs=study.runs,
        metrics=study.metrics,
        backbones={
            backbone: _with_chance(load_params("backbones", backbone, params), params) for backbone in backbones
        },
        concepts={concept: load_params("concepts", concept, params) for concept in concepts},
    )


def _with_chance(backbone: Mapping[str, Any], params: Path | str) -> dict[str, Any]:
    return {**backbone, CHANCE: dict(load_protocol(params).chance.get(backbone.get("world") or "", {}))}


def gather(study: Outline, artifacts: Path | str) -> Collected:
    """Reads the results of a study that lie under `artifacts`; errors as of `collect`."""
    name, about = study.name, study.concepts
    folders = {run: _folder(artifacts, run) for run in study.runs}
    finished = {run: folder for run, folder in folders.items() if (folder / "metrics" / name).is_dir()}
    missing = tuple(_path(run) for run in study.runs if run not in finished)
    if not finished:
        raise ValueError(
            f"study {name}: none of its {len(folders)} runs is measured under {artifacts}, such as {missing[0]}"
        )
    contents = {run: _contents(folder / "metrics" / name, study.metrics) for run, folder in finished.items()}
    measured = [content for of_run in contents.values() for content in of_run.values()]
    seen = f"{next((content['seen'] for content in measured if content.get('seen')), 'target')}_rate"
    named = tables(study.backbones)
    cells = {}
    for run in finished:
        own, known = about[run.concept], study.backbones[run.backbone].get(CHANCE, {})
        aim, chance = own.get("aim", "erase"), chance_of(own.get("target", {}), known)
        cells[run] = Cell(named[run.backbone], run.concept, aim, seen, chance)
    return Collected(
        name=name,
        description=study.description,
        results=tuple(_result(run, cells[run], folder, name, contents[run]) for run, folder in finished.items()),
        missing=missing,
        families={name: own["family"] for key, own in study.backbones.items() for name in (key, named[key])},
        sensitive={concept: bool(content.get("sensitive")) for concept, content in about.items()},
        columns=_columns(study.metrics, contents.values())
        + _of_members(about[name] for name in sorted({run.concept for run in finished})),
        caveats=_caveats(study.metrics, contents.values()),
        judges=_judges(measured),
    )


def _path(run: Run) -> str:
    return f"{run.backbone}/{run.concept}/{run.method}/{run.seed}"


def _folder(artifacts: Path | str, run: Run) -> Path:
    return run_folder(run.backbone, run.concept, run.method, run.seed, artifacts)


def _contents(folder: Path, metrics: Sequence[str]) -> Contents:
    """The metric files of one run; a number whose name an earlier metric has gets its own metric's name in front.

    Without that, the `target_rate` of two metrics would be pooled as if it were of two seeds.
    """
    contents: dict[str, Any] = {}
    taken: set[str] = set()
    for name in metrics:
        content = read_json(folder / f"{name}.json")
        names = {row["metric"] for row in content["rows"]}
        contents[name] = _renamed(content, name, names & taken) if names & taken else content
        taken |= names
    return contents


def _renamed(content: Mapping[str, Any], metric: str, twice: set[str]) -> dict[str, Any]:
    def rename(name: str) -> str:
        return f"{metric}_{name}" if {name, f"{name}_rate"} & twice else name

    renamed = {
        "rows": [row | {"metric": rename(row["metric"])} for row in content["rows"]],
        "samples": {
            prompts: {rename(name): values for name, values in outcomes.items()}
            for prompts, outcomes in content.get("samples", {}).items()
        },
    }
    if "seen" in content:
        renamed["judge"] = rename(content["seen"])
    if "columns" in content:
        renamed["columns"] = [column | {"metric": rename(column["metric"])} for column in content["columns"]]
    return {**content, **renamed}


def _columns(metrics: Sequence[str], runs: Iterable[Contents]) -> tuple[Column, ...]:
    """Each column once, metrics in the order of the study."""
    runs = list(runs)
    return tuple(dict.fromkeys(column for name in metrics for run in runs for column in _columns_of(run[name])))


def _judges(contents: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """The rate of each metric that sees the concept, under its own name among the others'."""
    names = [content.get("judge") or content["seen"] for content in contents if content.get("seen")]
    return tuple(dict.fromkeys(f"{name}_rate" for name in names))


def _of_members(concepts: Iterable[Mapping[str, Any]]) -> tuple[Column, ...]:
    """A column for each of several concepts that are erased as one."""
    wanted = [value for concept in concepts for value in concept.get("target", {}).values()]
    names = dict.fromkeys(name for value in wanted if not isinstance(value, str) for name in value)
    return tuple(Column("concept", f"{name.replace(' ', '_')}_rate", name.capitalize(), "low") for name in names)


def _columns_of(content: Mapping[str, Any]) -> list[Column]:
    """The columns that a metric's file names; of one that names none, every number but changes and the concept's."""
    if "columns" in content:
        return [Column(**column) for column in content["columns"]]
    others = ("attack_rate", "pre_asr", "asr", f"{content.get('seen')}_rate")
    keys = [(row["prompts"], row["metric"]) for row in content["rows"] if row["metric"] not in others]
    return [
        Column(prompts, metric, f"{metric.replace('_', ' ').capitalize()} ({prompts})", "")
        for prompts, metric in keys
        if not metric.endswith("_change")
    ]


def _caveats(metrics: Sequence[str], runs: Iterable[Contents]) -> tuple[str, ...]:
    """The first caveat of each metric."""
    runs = list(runs)
    first = (next((run[name]["caveat"] for run in runs if run[name].get("caveat")), None) for name in metrics)
    return tuple(filter(None, first))


def _result(run: Run, cell: Cell, folder: Path, study: str, contents: Contents) -> Result:
    samples, measured = folder / "samples" / study, folder / "metrics" / study
    outcomes: dict[str, dict[str, Sequence[float | None]]] = {}
    for content in contents.values():
        for prompts, judged in content.get("samples", {}).items():
            outcomes.setdefault(prompts, {}).update(judged)
    attacked = folder / "attacks" / study
    paths = [path for place in (folder, samples, attacked, measured) for path in sorted(place.glob("record-*.json"))]
    records = {path.stem.removeprefix("record-"): read_json(path) for path in paths}
    return Result(
        cell=cell,
        method=run.method,
        seed=run.seed,
        folder=folder,
        samples=samples,
        rows=(*(row for content in contents.values() for row in content["rows"]), *cosine_rows(records)),
        outcomes=outcomes,
        records=records,
        backbone=run.backbone,
    )


def cosine_rows(records: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row like a metric's for each kind of prompts that a circuit breaker watched; none without such a record.

    The value is the mean cosine of edited and unedited states over layers and scales. `n` is the number of prompts
    watched, or 1 for the whole run if the record does not count them.
    """
    notes = records.get("train", {}).get("notes") or {}
    cosines, counts = notes.get("cosines") or {}, notes.get("watched_prompts") or {}
    rows = []
    for kind, (prompts, metric) in {"breaker": BREAKER, "retain": RETAIN}.items():
        values = [float(value) for scales in cosines.get(kind, {}).values() for value in scales.values()]
        if values:
            value, n = sum(values) / len(values), counts.get(kind, 1)
            rows.append({"prompts": prompts, "metric": metric, "value": value, "n": n})
    return rows


def read_json(path: Path) -> Any:
    """The content of a JSON file; ValueError names a file that is missing or broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path}: missing; `snakemake` makes it") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not valid JSON: {error}") from None
