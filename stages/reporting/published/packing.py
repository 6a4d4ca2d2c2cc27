"""From the artifacts of a study to the files of its published results."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from stages.params import load_params
from stages.params.layout import run_folder
from stages.params.study import Run
from stages.reporting.collect import Outline, read_json
from stages.reporting.published.layout import (
    ABOUT,
    ATTACKS,
    FORMAT,
    OUTCOMES,
    PICTURE,
    RECORDS,
    RUN,
    SAMPLES,
    VALUE,
    VALUES,
    number,
    packed,
)
from stages.store.files import write_json
from stages.store.pictures import read_metadata
from stages.store.processor import processor
from stages.store.record import git, versions
from stages.store.samples import BEFORE

HEAD = ("seen", "columns")  # keys of a metric's file that are equal for all runs


def pack(study: Outline, artifacts: Path, out: Path, *, params: Path | str, protocol: Mapping[str, Any]) -> None:
    """Writes study.json and the packed outcomes, values and records of the runs that are finished.

    FileNotFoundError or ValueError names a metric file or metadata that are missing, or that do not fit.
    """
    runs = {run: _folder(artifacts, run) for run in study.runs}
    finished = {run: folder for run, folder in runs.items() if (folder / "metrics" / study.name).is_dir()}
    contents = {
        run: {name: read_json(folder / "metrics" / study.name / f"{name}.json") for name in study.metrics}
        for run, folder in finished.items()
    }
    columns = sorted(
        {
            f"{name}:{outcome}"
            for of_run in contents.values()
            for name, content in of_run.items()
            for judged in content.get("samples", {}).values()
            for outcome in judged
        }
    )
    outcomes = (
        row for run, folder in finished.items() for row in _pictures(study, run, folder, contents[run], columns)
    )
    values = (row for run, of_run in contents.items() for row in _values(run, of_run))
    records = (line for run, folder in finished.items() for line in _records(study, run, folder))
    files = {
        OUTCOMES: _csv((*RUN, *PICTURE, *columns), outcomes),
        VALUES: _csv((*RUN, *VALUE), values),
        RECORDS: "".join(json.dumps(line, sort_keys=True) + "\n" for line in records),
    }
    out.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (out / name).write_bytes(packed(text))
    metrics = [_metric(name, params, contents) for name in study.metrics]
    about = asdict(study) | {
        "format": FORMAT,
        "runs": [_about(run, contents.get(run, {})) for run in study.runs],
        "metrics": metrics,
        "protocol": dict(protocol),
        "published": {"git": git(), "versions": versions(), "processor": processor()},
    }
    write_json(out / ABOUT, about)


def _folder(artifacts: Path, run: Run) -> Path:
    return run_folder(run.backbone, run.concept, run.method, run.seed, artifacts)


def _metric(name: str, params: Path | str, contents: Mapping[Run, Mapping[str, Any]]) -> dict[str, Any]:
    """The settings of a metric, and what its files declare to the report."""
    heads = [{key: of_run[name][key] for key in HEAD if key in of_run[name]} for of_run in contents.values()]
    if any(head != heads[0] for head in heads):
        raise ValueError(f"{name}: the runs' files name different columns; measure them again")
    return {"name": name, "params": load_params("metrics", name, params), "head": heads[0] if heads else {}}


def _about(run: Run, contents: Mapping[str, Any]) -> dict[str, Any]:
    caveats = {name: content["caveat"] for name, content in contents.items() if content.get("caveat")}
    return asdict(run) | ({"caveats": caveats} if caveats else {})


def _key(run: Run) -> tuple[str, ...]:
    return (run.backbone, run.concept, run.method, str(run.seed))


def _pictures(
    study: Outline, run: Run, folder: Path, contents: Mapping[str, Any], columns: Sequence[str]
) -> Iterator[tuple[str, ...]]:
    """A row for each picture that has outcomes, in the order of its folder."""
    for prompts in dict.fromkeys(name for content in contents.values() for name in content.get("samples", {})):
        kind = SAMPLES if (folder / SAMPLES / study.name / prompts).is_dir() else ATTACKS
        place = folder / kind / study.name / prompts
        lines = read_metadata(place)
        before = [str(line["prompt"]) for line in read_metadata(place / BEFORE)] if (place / BEFORE).is_dir() else []
        judged = {
            f"{name}:{outcome}": values
            for name, content in contents.items()
            for outcome, values in content.get("samples", {}).get(prompts, {}).items()
        }
        for name, values in {**judged, "prompts before the attack": before}.items():
            if len(values) not in (len(lines), 0 if name not in judged else len(lines)):
                raise ValueError(f"{place}: {len(lines)} pictures, but {len(values)} of {name}; measure it again")
        for i, line in enumerate(lines):
            attacked = before[i] if before else ""
            found = (number(judged[name][i]) if name in judged else "" for name in columns)
            yield (*_key(run), kind, prompts, str(line["prompt"]), str(line["seed"]), attacked, *found)


def _values(run: Run, contents: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for name, content in contents.items():
        for row in content["rows"]:
            numbers = (number(row.get(key)) for key in ("value", "ci_low", "ci_high", "n"))
            yield (*_key(run), name, row["prompts"], row["metric"], *numbers)


def _records(study: Outline, run: Run, folder: Path) -> Iterator[dict[str, Any]]:
    places = (folder, *(folder / part / study.name for part in (SAMPLES, ATTACKS, "metrics")))
    for path in (path for place in places for path in sorted(place.glob("record-*.json"))):
        record = {key: value for key, value in read_json(path).items() if key != "curves"}
        yield {**asdict(run), "file": path.relative_to(folder).as_posix(), "record": record}


def _csv(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return buffer.getvalue()
