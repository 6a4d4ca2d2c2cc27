"""What stands behind one row of a table: its numbers, images, parameters, seeds, commit and records."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from stages.params import load_params
from stages.params.names import split
from stages.reporting.collect import Cell, Collected, Result
from stages.reporting.grids import spread
from stages.reporting.images import Sample, blurred, data_uri, read_samples
from stages.reporting.tables import Number, Numbers
from stages.reporting.wording import interval, written

BUDGET = 2400  # images of evidence that a page carries, shared by all rows
FEWEST, MOST = 6, 24  # of one row and prompt set
CLIP = 6  # images that have the bytes of a clip


@dataclass(frozen=True)
class Tile:
    """One image on the page."""

    uri: str
    still: str  # the middle frame of a clip, for who prefers no motion; empty for an image
    width: int
    height: int
    prompt: str
    seed: int
    judged: Mapping[str, bool]


@dataclass(frozen=True)
class Measured:
    """One number with what it was in each seed."""

    prompts: str
    metric: str
    value: str
    interval: str
    n: int
    seeds: tuple[tuple[int, str, str], ...]  # (seed, value, interval)


@dataclass(frozen=True)
class Evidence:
    """Everything behind one method's row."""

    anchor: str
    seeds: tuple[int, ...]
    numbers: tuple[Measured, ...]
    images: Mapping[str, tuple[Tile, ...]]  # prompts -> tiles
    sampled: Mapping[str, int]  # prompts -> how many images there are in all
    records: tuple[tuple[int, str, Mapping[str, Any]], ...]  # (seed, stage, record)
    params: tuple[tuple[str, str], ...]


def evidence(study: Collected, numbers: Numbers, cell: Cell, method: str, *, hide: bool) -> Evidence:
    """Gathers what stands behind one row; images are spread evenly over seeds and prompts, none chosen by eye."""
    results = study.of(cell, method)
    folders = [folder for result in results for folder in (result.samples, result.attacks)]
    sets = sorted({path.parent.name for folder in folders for path in folder.glob("*/metadata.jsonl")})
    sampled = {prompts: [(result, read_samples(result.pictures(prompts))) for result in results] for prompts in sets}
    rows = len({(result.cell, result.method) for result in study.results})
    return Evidence(
        anchor=anchor(cell, method),
        seeds=tuple(result.seed for result in results),
        numbers=tuple(_measured(numbers, cell, method, results)),
        images={
            prompts: tuple(_tiles(found, prompts, BUDGET // (2 * rows), hide)) for prompts, found in sampled.items()
        },
        sampled={prompts: sum(len(samples) for _, samples in found) for prompts, found in sampled.items()},
        records=tuple((result.seed, stage, record) for result in results for stage, record in result.records.items()),
        params=tuple(flattened(fitted_with(results[0].records))),
    )


def fitted_with(records: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    """The fields of a run's method: of its training, or of its sampling where that fitted it."""
    return (records.get("train") or records.get("binarize") or records.get("sample") or {}).get("params") or {}


def anchor(cell: Cell, method: str) -> str:
    """The page address of a row's evidence."""
    return re.sub(r"[^\w-]", "_", f"run-{cell.backbone}-{cell.concept}-{method}")


def tile(sample: Sample, judged: Mapping[str, bool], *, hide: bool) -> Tile:
    """A sample as the page shows it: an image, or a clip that plays."""
    frames = [blurred(frame) if hide else frame for frame in sample.frames()]
    still = data_uri([frames[len(frames) // 2]])
    moving = data_uri(frames) if len(frames) > 1 else ""
    width, height = frames[0].size
    return Tile(moving or still, still if moving else "", width, height, sample.prompt, sample.seed, judged)


def judgements(result: Result, prompts: str, position: int) -> dict[str, bool]:
    """The yes-or-no outcomes of one image, such as {"target": True, "shape": False}; what was not asked is left out."""
    judged = result.outcomes.get(prompts, {})
    verdicts = [name for name, values in judged.items() if position < len(values) and set(values) <= {0, 1, None}]
    return {name: judged[name][position] == 1 for name in verdicts if judged[name][position] is not None}


def _tiles(found: Sequence[tuple[Result, Sequence[Sample]]], prompts: str, budget: int, hide: bool) -> Iterator[Tile]:
    """The same number of tiles of each seed; a clip weighs as the few images whose bytes it has."""
    clips = any(sample.clip for _, samples in found for sample in samples)
    each = max(FEWEST, min(MOST, budget // (CLIP if clips else 1))) // len(found) or 1
    for result, samples in found:
        places = {sample.index: position for position, sample in enumerate(samples)}
        for sample in spread(samples, each):
            yield tile(sample, judgements(result, prompts, places[sample.index]), hide=hide)


def _measured(numbers: Numbers, cell: Cell, method: str, results: Sequence[Result]) -> Iterator[Measured]:
    for (where, name, prompts, metric), number in numbers.items():
        if (where, name) == (cell, method):
            seeds = [(result.seed, *_own(result, prompts, metric)) for result in results]
            yield Measured(
                prompts, metric, written(number.value, metric), interval(number, metric), number.n, tuple(seeds)
            )


def _own(result: Result, prompts: str, metric: str) -> tuple[str, str]:
    rows = [
        row for row in result.rows if (row["prompts"], row["metric"]) == (prompts, metric) and row["value"] is not None
    ]
    if not rows:
        return "–", ""
    low, high = (float("nan") if rows[0].get(key) is None else rows[0][key] for key in ("ci_low", "ci_high"))
    number = Number(rows[0]["value"], low, high, rows[0]["n"])
    return written(number.value, metric), interval(number, metric)


def flattened(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested parameters as (dotted key, text) pairs."""
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from flattened(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def description(method: str, params: Path | str = "params") -> str:
    """What a method does: the opening comment of its YAML, then the docstrings of its module and class."""
    content = load_params("methods", method, params)
    lines = (Path(params) / "methods" / f"{split(method)[0]}.yaml").read_text(encoding="utf-8").splitlines()
    comment = " ".join(line.lstrip("# ") for line in takewhile(lambda line: line.startswith("#"), lines))
    module, _, name = str(content["class"]).rpartition(".")
    source = Path(__file__).parents[2].joinpath(*module.split(".")).with_suffix(".py")
    tree = ast.parse(source.read_text(encoding="utf-8"))
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name]
    texts = [comment, *(ast.get_docstring(node) for node in (tree, *classes))]
    return "\n\n".join(text for text in texts if text)
