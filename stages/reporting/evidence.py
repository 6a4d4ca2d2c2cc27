"""The evidence behind one row of a table: its numbers, images, parameters, seeds, commit and records."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from stages.params import load_params
from stages.params.effect import departures
from stages.params.names import split
from stages.reporting.attempts import Attempts
from stages.reporting.collected import Cell, Collected, Result
from stages.reporting.formats import interval, written
from stages.reporting.grids import spread
from stages.reporting.images import Sample, blurred, data_uri, samples_in
from stages.reporting.numbers import Number, Numbers

BUDGET = 2400  # images of evidence that a page carries, shared by all rows
FEWEST, MOST = 6, 24  # of one row and prompt set
CLIP = 6  # images that have the bytes of a clip


@dataclass(frozen=True)
class Tile:
    """One image on the page."""

    uri: str  # the image or clip as data
    still: str  # the middle frame of a clip, for readers who prefer no motion; empty for an image
    width: int  # pixels of the sample
    height: int
    prompt: str
    seed: int
    judged: Mapping[str, bool]  # the yes-or-no outcomes that were asked for


@dataclass(frozen=True)
class Measured:
    """One number, pooled and of each training."""

    prompts: str
    metric: str
    value: str  # pooled
    interval: str  # empty without one
    n: int  # images
    seeds: tuple[tuple[str, str, str], ...]  # (training, value, interval)


@dataclass(frozen=True)
class Evidence:
    """Everything behind one method's row."""

    anchor: str  # its address on the page
    seeds: tuple[str, ...]  # of each training, behind the backbone's name if the table has several
    numbers: tuple[Measured, ...]
    images: Mapping[str, tuple[Tile, ...]]  # prompts -> tiles; empty if they could not be drawn
    sampled: Mapping[str, int]  # prompts -> the number of images in all
    records: tuple[tuple[str, str, Mapping[str, Any]], ...]  # (seed, stage, record)
    params: tuple[tuple[str, str], ...]  # of the method, as text


def evidence(
    study: Collected, numbers: Numbers, cell: Cell, method: str, *, hide: bool, attempts: Attempts
) -> Evidence:
    """Gathers the evidence of one row; images are spread evenly over seeds and prompts, none chosen by eye.

    FileNotFoundError or ValueError if samples have no metadata. Images that cannot be drawn cost their prompt set.
    """
    results = study.of(cell, method)
    folders = [folder for result in results for folder in (result.samples, result.attacks)]
    sets = sorted({path.parent.name for folder in folders for path in folder.glob("*/metadata.jsonl")})
    sampled = {prompts: [(result, samples_in(result.pictures(prompts))) for result in results] for prompts in sets}
    sets = [prompts for prompts in sets if any(samples for _, samples in sampled[prompts])]
    rows = len({(result.cell, result.method) for result in study.results})

    def tiles(prompts: str) -> tuple[Tile, ...]:
        def make() -> tuple[Tile, ...]:
            return tuple(_tiles(sampled[prompts], prompts, study.tiles or max(FEWEST, BUDGET // (2 * rows)), hide))

        return attempts(f"images of {method}, {prompts} prompts", make, place=str(cell)) or ()

    return Evidence(
        anchor=anchor(cell, method),
        seeds=tuple(training(study, result) for result in results),
        numbers=tuple(_measured(study, numbers, cell, method)),
        images={prompts: tiles(prompts) for prompts in sets},
        sampled={prompts: sum(len(samples) for _, samples in sampled[prompts]) for prompts in sets},
        records=tuple(
            (training(study, result), stage, record) for result in results for stage, record in result.records.items()
        ),
        params=tuple(flattened(fitted_with(results[0]))),
    )


def training(study: Collected, result: Result) -> str:
    """The seed of a run, behind its backbone's name if its table has several."""
    return f"{result.backbone} {result.seed}" if len(study.backbones(result.cell)) > 1 else f"{result.seed}"


def fitted_with(result: Result) -> Mapping[str, Any]:
    """The fields of a run's method: of its training, or of its sampling if that fitted it."""
    return (result.fit or result.records.get("sample") or {}).get("params") or {}


def departs(result: Result, params: Path | str = "params") -> str:
    """The fields in which a run was another kind of method than its file says; empty if it was not."""
    ran = fitted_with(result)
    try:
        plain = load_params("methods", split(result.method)[0], params)
    except ValueError:  # a method that is gone
        return ""
    return "; ".join(departures(ran, plain)) if "class" in ran else ""


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
    verdicts = {
        name: values[position]
        for name, values in judged.items()
        if position < len(values) and set(values) <= {0, 1, None} and not name.endswith("_share")
    }
    return {name: verdict == 1 for name, verdict in verdicts.items() if verdict is not None}


def _tiles(sampled: Sequence[tuple[Result, Sequence[Sample]]], prompts: str, budget: int, hide: bool) -> Iterator[Tile]:
    """The same number of tiles of each seed; a clip weighs as the few images whose bytes it has."""
    clips = any(sample.clip for _, samples in sampled for sample in samples)
    each = min(MOST, max(min(FEWEST, budget), budget // (CLIP if clips else 1))) // len(sampled) or 1
    for result, samples in sampled:
        places = {sample.index: position for position, sample in enumerate(samples)}
        for sample in spread(samples, each):
            yield tile(sample, judgements(result, prompts, places[sample.index]), hide=hide)


def _measured(study: Collected, numbers: Numbers, cell: Cell, method: str) -> Iterator[Measured]:
    results = study.of(cell, method)
    for (place, name, prompts, metric), number in numbers.items():
        if (place, name) == (cell, method):
            seeds = [(training(study, result), *_of_seed(result, prompts, metric)) for result in results]
            yield Measured(
                prompts, metric, written(number.value, metric), interval(number, metric), number.n, tuple(seeds)
            )


def _of_seed(result: Result, prompts: str, metric: str) -> tuple[str, str]:
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
    """The description of a method: the opening comment of its YAML, then the docstrings of its module and class."""
    content = load_params("methods", method, params)
    lines = (Path(params) / "methods" / f"{split(method)[0]}.yaml").read_text(encoding="utf-8").splitlines()
    comment = " ".join(line.lstrip("# ") for line in takewhile(lambda line: line.startswith("#"), lines))
    module, _, name = str(content["class"]).rpartition(".")
    source = Path(__file__).parents[2].joinpath(*module.split(".")).with_suffix(".py")
    tree = ast.parse(source.read_text(encoding="utf-8"))
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name]
    texts = [comment, ast.get_docstring(tree), *map(ast.get_docstring, classes)]
    return "\n\n".join(text for text in texts if text)
