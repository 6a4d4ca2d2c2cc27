"""What there is, a line each: name, where it works, what it costs, where it comes from, what it is."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from stages.params.load import load_params, names
from stages.params.plugins import plugins
from stages.params.project import located
from stages.params.prompt_sources import ROLES, fetched, load_source

WIDTH = 100  # characters of what a thing is
HEADS = {
    "methods": ("method", "families", "cost"),
    "backbones": ("backbone", "family", "cost"),
    "concepts": ("concept", "measured by", "table"),
    "studies": ("study", "backbones", "metrics"),
    "metrics": ("metric", "class", "needs"),
    "attacks": ("attack", "families", "cost"),
    "prompts": ("table", "labels", "prompts"),
}


def listing(what: str) -> str:
    """A table as text, with a head."""
    rows = [(*HEADS[what], "from", "what")] + [row(what, name) for name in _names(what)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) for cells in rows)
    return "\n".join(line.rstrip() for line in lines)


def _names(what: str) -> list[str]:
    tables = sorted(path.name for path in located("data").glob("*.csv")) if what == "prompts" else []
    return [*tables, *names(what)]


def row(what: str, name: str) -> tuple[str, str, str, str, str]:
    """The cells of one line; a file that cannot be read says so."""
    if name.endswith(".csv"):
        return table(located("data") / name)
    try:
        content = load_params(what, name)
        where, cost = ABOUT[what](content)
    except (ValueError, KeyError) as error:
        return name, "", "", origin(what, name), f"cannot be read: {' '.join(str(error).split())}"[:WIDTH]
    return name, where, cost, origin(what, name), about(what, name, content)


def about(what: str, name: str, content: Mapping[str, Any]) -> str:
    """What a file says of itself: its description, or the first sentence of the comment on top."""
    text = str(content.get("description") or content.get("what") or "") or comment(
        located(f"params/{what}/{name}.yaml")
    )
    first = " ".join(text.split()).partition(". ")[0].rstrip(".")
    return first if len(first) <= WIDTH else f"{first[: WIDTH - 1]}…"


def comment(path: Path) -> str:
    """The comment at the top of a file."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    end = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return " ".join(line.lstrip("# ") for line in lines[:end])


def origin(what: str, name: str) -> str:
    """Where a thing comes from: a file of params/, or another package."""
    plugin = plugins().get(what, {}).get(name)
    if what == "prompts":
        return "fetched" if fetched(name, load_source(name)).is_file() else "to fetch"
    return plugin.package if plugin and not located(f"params/{what}/{name}.yaml").is_file() else "params"


def _method(content: Mapping[str, Any]) -> tuple[str, str]:
    steps = f"{content['steps']} steps" if content.get("steps") else "a training"
    return _families(content), "fitted at once" if content.get("trained") is False else steps


def _attack(content: Mapping[str, Any]) -> tuple[str, str]:
    counts = [f"{content[key]} {key}" for key in ("steps", "generations", "queries", "prompts") if content.get(key)]
    return _families(content), ", ".join(counts[:2])


def _families(content: Mapping[str, Any]) -> str:
    return ", ".join(content.get("families", ["all"]))


def _backbone(content: Mapping[str, Any]) -> tuple[str, str]:
    if content.get("world"):
        return content["family"], f"trained here, {content.get('pretrain', {}).get('steps', '?')} steps"
    return content["family"], f"{content['memory'] / 1000:.0f} GB" if content.get("memory") else content["path"]


def _concept(content: Mapping[str, Any]) -> tuple[str, str]:
    target = content.get("target") or {}
    return ", ".join(f"{label} {_one(value)}" for label, value in target.items()), content.get("dataset", "")


def _one(value: Any) -> str:
    return str(value) if isinstance(value, str) else f"of {len(value)}"


def _study(content: Mapping[str, Any]) -> tuple[str, str]:
    backbones = dict.fromkeys(name for cell in content["cells"] for name in cell["backbones"])
    return ", ".join(backbones), ", ".join(content["metrics"])


def _metric(content: Mapping[str, Any]) -> tuple[str, str]:
    needs = content.get("model") or ("the judge of a small world" if content.get("judge") else "")
    return content["class"].rpartition(".")[2], needs or "an extra"


def _published(content: Mapping[str, Any]) -> tuple[str, str]:
    labels = [key for key in content["columns"] if key not in ROLES]
    return ", ".join(labels), str(content["rows"])


def table(path: Path) -> tuple[str, str, str, str, str]:
    """The line of a table of prompts: its labels, how many rows, of which sets."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    labels = list(_labels(rows[0] if rows else {}))
    sets = ", ".join(sorted({row.get("set") or "" for row in rows} - {""}))
    return path.name, ", ".join(labels), str(len(rows)), "data", f"sets: {sets}" if sets else ""


def _labels(row: Mapping[str, Any]) -> Iterator[str]:
    yield from (name for name in row if f"without_{name}" in row)


ABOUT: Mapping[str, Callable[[Mapping[str, Any]], tuple[str, str]]] = {
    "methods": _method,
    "attacks": _attack,
    "backbones": _backbone,
    "concepts": _concept,
    "studies": _study,
    "metrics": _metric,
    "prompts": _published,
}
