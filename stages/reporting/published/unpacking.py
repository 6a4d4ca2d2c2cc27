"""From published files back to a tree of metric files, metadata and records, the numbers derived from the outcomes."""

from __future__ import annotations

import csv
import io
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.metrics.base import Metric
from stages.params import build
from stages.params.layout import run_folder
from stages.params.study import Run
from stages.reporting.collect import Outline
from stages.reporting.collected import UNEDITED
from stages.reporting.published.derive import Pictures, rows_from
from stages.reporting.published.layout import (
    ABOUT,
    DAMAGED,
    FORMAT,
    OUTCOMES,
    PICTURE,
    RECORDS,
    RUN,
    VALUES,
    parsed,
    read_text,
)

CLOSE = 2e-6  # of a number, or of its size: outcomes are stored with six decimals


@dataclass(frozen=True)
class Derived:
    """How many numbers of the runs follow from the outcomes, and how many stand as their metric wrote them."""

    pictures: int
    derived: int
    stored: int
    kinds: tuple[str, ...]  # the names of those that stand


@dataclass(frozen=True)
class Published:
    """The files of published results, read."""

    folder: Path
    about: Mapping[str, Any]
    outline: Outline
    metrics: Mapping[str, Metric]
    heads: Mapping[str, Mapping[str, Any]]  # metric -> what its files declare to the report
    pictures: Mapping[Run, Mapping[str, Pictures]]  # prompt set or attack -> its pictures
    values: Mapping[Run, Sequence[Mapping[str, Any]]]  # rows as the metrics wrote them
    records: Sequence[Mapping[str, Any]]


def read(folder: Path) -> Published:
    """Published results; FileNotFoundError or ValueError in one line names a file that is missing or damaged."""
    try:
        about = json.loads(read_text(folder / ABOUT))
        if about["format"] != FORMAT:
            raise ValueError(f"{folder / ABOUT}: of format {about['format']}; this version reads {FORMAT}")
        runs = tuple(Run(*(run[key] for key in RUN)) for run in about["runs"])
        heads = {metric["name"]: metric["head"] for metric in about["metrics"]}
        metrics = {metric["name"]: build(metric["params"], f"{folder / ABOUT}") for metric in about["metrics"]}
        outline = Outline(
            name=about["name"],
            description=about["description"],
            runs=runs,
            metrics=tuple(metrics),
            backbones=about["backbones"],
            concepts=about["concepts"],
        )
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        path = folder / ABOUT
        raise ValueError(f"{path} is damaged ({error!r}); {DAMAGED.format(path=path)}") from None
    records = [json.loads(line) for line in read_text(folder / RECORDS).splitlines()]
    return Published(folder, about, outline, metrics, heads, _pictures(folder), _values(folder), records)


def unpack(published: Published, tree: Path) -> Derived:
    """Writes the tree that `stages.reporting.collect.gather` reads, the numbers of its runs derived from outcomes.

    ValueError names the first number of a run that its stored outcomes do not give.
    """
    counts, kinds = [0, 0], dict[str, None]()
    for run, values in published.values.items():
        folder, sets = _folder(tree, run), published.pictures.get(run, {})
        twins = published.pictures.get(Run(run.backbone, run.concept, UNEDITED, run.seed))
        for kind_and_name, pictures in sets.items():
            place = folder / pictures.kind / published.outline.name / kind_and_name
            lines = ({"file": f"{i}", "prompt": p, "seed": s} for i, (p, s) in enumerate(pictures.asked))
            _write(place / "metadata.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
        for name, metric in published.metrics.items():
            written = [row for row in values if row["file"] == name]
            found = {(row["prompts"], row["metric"]): row for row in rows_from(name, metric, sets, twins)}
            rows = []
            for row in written:
                key = (row["prompts"], row["metric"])
                if key in found:
                    _check(published.folder, run, row, found[key])
                elif type(metric).rescored is not Metric.rescored:
                    where = f"{published.folder / VALUES}: {_said(run, *key)}"
                    raise ValueError(f"{where}: no outcomes in {OUTCOMES} give it")
                else:
                    kinds[f"{row['metric']} of {name}"] = None
                counts[key in found] += 1
                rows.append(found.get(key, {k: v for k, v in row.items() if k != "file"}))
            if unwritten := sorted(found.keys() - {(row["prompts"], row["metric"]) for row in written}):
                raise ValueError(f"{published.folder / VALUES}: {_said(run, *unwritten[0])}: missing")
            content: dict[str, Any] = {**published.heads[name], "metric": name, "rows": rows}
            content["samples"] = {
                prompts: pictures.outcomes[name] for prompts, pictures in sets.items() if name in pictures.outcomes
            }
            if caveat := _caveat(published, run, name):
                content["caveat"] = caveat
            _write(folder / "metrics" / published.outline.name / f"{name}.json", json.dumps(content))
    for line in published.records:
        run = Run(*(line[key] for key in RUN))
        _write(_folder(tree, run) / line["file"], json.dumps(line["record"]))
    total = sum(len(pictures.asked) for sets in published.pictures.values() for pictures in sets.values())
    return Derived(total, counts[True], counts[False], tuple(kinds))


def _check(folder: Path, run: Run, written: Mapping[str, Any], derived: Mapping[str, Any]) -> None:
    for key in ("value", "ci_low", "ci_high", "n"):
        one, other = written[key], derived[key]
        if one is None or other is None:
            same = one is other
        else:
            same = abs(one - other) <= CLOSE * max(1.0, abs(other))
        if not same:
            raise ValueError(
                f"{folder / VALUES}: {_said(run, written['prompts'], written['metric'])}: {key} is written as {one}, "
                f"and the outcomes in {OUTCOMES} give {other}"
            )


def _said(run: Run, prompts: str, metric: str) -> str:
    return f"{run.backbone}/{run.concept}/{run.method}/{run.seed}, {prompts} prompts, {metric}"


def _caveat(published: Published, run: Run, metric: str) -> str | None:
    for one in published.about["runs"]:
        if all(one[key] == getattr(run, key) for key in RUN):
            return one.get("caveats", {}).get(metric)
    return None


def _folder(tree: Path, run: Run) -> Path:
    return run_folder(run.backbone, run.concept, run.method, run.seed, tree)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _rows(path: Path) -> Iterator[tuple[Run, dict[str, str]]]:
    try:
        for row in csv.DictReader(io.StringIO(read_text(path)), strict=True):
            yield Run(row["backbone"], row["concept"], row["method"], int(row["seed"])), row
    except (KeyError, TypeError, csv.Error) as error:
        raise ValueError(f"{path} is damaged ({error!r}); {DAMAGED.format(path=path)}") from None


def _pictures(folder: Path) -> dict[Run, dict[str, Pictures]]:
    grouped: dict[Run, dict[str, list[dict[str, str]]]] = defaultdict(lambda: defaultdict(list))
    for run, row in _rows(folder / OUTCOMES):
        grouped[run][row["prompts"]].append(row)
    return {run: {name: _set(rows) for name, rows in sets.items()} for run, sets in grouped.items()}


def _set(rows: Sequence[Mapping[str, str]]) -> Pictures:
    outcomes: dict[str, dict[str, list[float | None]]] = defaultdict(dict)
    for column in rows[0]:
        if column not in (*RUN, *PICTURE) and any(row[column] for row in rows):
            metric, _, outcome = column.partition(":")
            outcomes[metric][outcome] = [parsed(row[column]) for row in rows]
    asked = [(row["prompt"], int(row["noise"])) for row in rows]
    attacked = [row["attacked"] for row in rows] if any(row["attacked"] for row in rows) else []
    return Pictures(rows[0]["kind"], asked, attacked, outcomes)


def _values(folder: Path) -> dict[Run, list[dict[str, Any]]]:
    values: dict[Run, list[dict[str, Any]]] = defaultdict(list)
    for run, row in _rows(folder / VALUES):
        numbers = {key: parsed(row[key]) for key in ("value", "ci_low", "ci_high", "n")}
        values[run].append({key: row[key] for key in ("file", "prompts", "metric")} | numbers)
    return values
