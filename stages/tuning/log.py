"""What a search leaves beside its journal, and how its best trial comes into params/tuned/."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from stages.params.effect import effective
from stages.params.layers import CONCEPTS
from stages.params.project import located
from stages.store.files import write_json, write_text
from stages.tuning.space import own_fields
from stages.tuning.trials import Trial

SUMMARY, TABLE, JOURNAL = "summary.json", "trials.csv", "journal.log"
TUNED = "params/tuned"


def write_log(folder: Path, about: Mapping[str, Any], trials: Sequence[Trial]) -> dict[str, Any]:
    """Writes all trials as JSON, beside what they are `about`, and as a table; the JSON's content."""
    best = max(trials, key=lambda trial: trial.objective)  # the first of equals
    content = {
        **about,
        "trials": [asdict(trial) for trial in trials],
        "best": best.number,
        "settings": dict(best.settings),
        "objective": best.objective,
        "seconds": round(sum(trial.seconds for trial in trials), 2),
        "processors": sorted({trial.processor for trial in trials}),
    }
    write_text(folder / TABLE, table(trials))
    write_json(folder / SUMMARY, content)
    return content


def table(trials: Sequence[Trial]) -> str:
    """A row for each trial: its number, objective and mean parts, its settings, what it took and where."""
    rows = [
        {
            "trial": trial.number,
            "objective": round(trial.objective, 4),
            "erased": _mean(trial, "erased"),
            "lost": _mean(trial, "lost"),
            **trial.settings,
            "seconds": trial.seconds,
            "processor": trial.processor,
            "failed": trial.failed,
        }
        for trial in trials
    ]
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _mean(trial: Trial, part: str) -> float | str:
    """The mean over concepts of what was erased, or of the set that lost most; empty for a trial that failed."""
    every = [list(one[part].values()) for one in trial.parts.values()]
    if not every:
        return ""
    shares = [max(one) if part == "lost" else sum(one) / len(one) for one in every]
    return round(sum(shares) / len(shares), 4)


def read_logs(folder: Path, method: str) -> list[dict[str, Any]]:
    """The finished searches of a method, for each backbone one, or one of each kind; ValueError if there is none."""
    paths = sorted(path for place in ("", "*/") for path in Path(folder).glob(f"*/{method}/{place}{SUMMARY}"))
    if not paths:
        raise ValueError(f"{folder}: no search of {method}; run: snakemake --cores all tune --config tune={method}")
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


def write_tuned(method: str, logs: Sequence[Mapping[str, Any]], folder: Path | str = TUNED) -> Path:
    """Writes the best settings of a method's searches to its file, under world, architecture and, of a search of one
    kind of concepts, that kind, and says where from.

    What the file says of others stays, and so do lines of its header about them. ValueError if two searches are of one
    place, or one is of a finished checkpoint.
    """
    path = located(folder) / f"{method}.yaml"
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    worlds: dict[str, Any] = yaml.safe_load(text) or {}
    header = {line[2:].partition(":")[0]: line for line in text.splitlines() if line.startswith("# ")}
    places = [place(log) for log in logs]
    if twice := next((one for one in places if places.count(one) > 1), None):
        raise ValueError(f"{method}: two searches are of {' '.join(twice)}; remove the folder of one")
    for (world, architecture, *kind), log in zip(places, logs, strict=True):
        rows = worlds.setdefault(world, {})
        row = with_effect(method, {**log["fixed"], **log["settings"]})
        old = rows.get(architecture) or {}
        rows[architecture] = old | {kind[0]: row} if kind else row | {key: old[key] for key in old if key in CONCEPTS}
        header[" ".join((world, architecture, *kind))] = f"# {' '.join((world, architecture, *kind))}: {origin(log)}"
    lines = [f"# The settings of {method} by world and architecture; written by stages.tune, not by hand."]
    lines += [header.get(name, f"# {name}: not searched; what stood here before.") for name in _places(worlds)]
    body = yaml.safe_dump(worlds, sort_keys=False, default_flow_style=None, width=110)
    write_text(path, "\n".join(lines) + "\n" + body)
    return path


def place(log: Mapping[str, Any]) -> tuple[str, ...]:
    """World and architecture of a search, and the kind of its concepts if it is of one; ValueError for a checkpoint."""
    if not log["world"]:
        raise ValueError(
            f"{log['backbone']} is a finished checkpoint: write its fields to params/adapted/{log['method']}.yaml"
        )
    return (log["world"], log["architecture"], *filter(None, [log.get("kind")]))


def _places(worlds: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Iterator[str]:
    """The rows of a file of tuned settings, as its header names them."""
    for world, rows in worlds.items():
        for architecture, row in rows.items():
            kinds = [kind for kind in CONCEPTS if kind in row]
            if len(kinds) < len(row) or not row:
                yield f"{world} {architecture}"
            yield from (f"{world} {architecture} {kind}" for kind in kinds)


def with_effect(method: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """A row's fields without those that have no effect beside the others: a file that says such a thing is refused."""
    own = own_fields(method)
    counted = effective(own["class"], {**own, **row})
    return {key: value for key, value in row.items() if key in counted}


def origin(log: Mapping[str, Any]) -> str:
    """What a search's settings were chosen on and by, in one line."""
    trials = log["trials"]
    return (
        f"tuned on {', '.join(log['concepts'])} with {log['backbone']}, protocol {log['protocol']}: "
        f"trial {log['best']} of {len(trials)}, objective {log['objective']:.3f} "
        f"(trial 0: {trials[0]['objective']:.3f}), on {', '.join(log['processors'])}."
    )
