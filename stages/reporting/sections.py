"""One section of the page per table: its findings, rows, figures and grids, ready to be set."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from stages.reporting import wording
from stages.reporting.collect import REFERENCES, UNEDITED, Cell, Collected
from stages.reporting.cosines import cosines
from stages.reporting.evidence import Evidence, Tile, evidence, judgements, tile
from stages.reporting.figures import Style, styles, themed_svg
from stages.reporting.grids import SETS, Grid, grid
from stages.reporting.markdown import costs
from stages.reporting.plots import curves_figure, sweep_figure, tradeoff_figure
from stages.reporting.summary import Column, best, columns, cost
from stages.reporting.sweeps import Sweep, sweeps
from stages.reporting.tables import Number, Numbers


@dataclass(frozen=True)
class Entry:
    """One number of a row; `best` when its interval stands apart from every other method's."""

    column: Column
    number: Number
    value: str
    interval: str
    best: bool


@dataclass(frozen=True)
class Row:
    """One method of a table."""

    method: str
    style: Style
    reference: bool
    entries: tuple[Entry | None, ...]
    costs: tuple[str, ...]
    evidence: Evidence


@dataclass(frozen=True)
class Line:
    """One prompt of a grid with each method's image for it."""

    prompt: str
    seed: int
    tiles: tuple[Tile, ...]


@dataclass(frozen=True)
class Sheet:
    """A grid on the page."""

    prompts: str
    methods: tuple[str, ...]
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Section:
    """Everything the page shows of one backbone and concept."""

    cell: Cell
    family: str
    blurred: bool
    findings: tuple[str, ...]
    leader: str  # the method with the best trade, empty without one
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    sheets: tuple[Sheet, ...]
    tradeoff: str  # SVG elements, empty where there is nothing to draw
    curves: str
    sweeps: tuple[tuple[str, str], ...]  # a swept method and its heat maps
    missing: tuple[str, ...]

    def strips(self) -> list[tuple[str, list[Tile]]]:
        """The first grid's images before and after: the unedited model's, then the leader's."""
        sheet = next(iter(self.sheets), None)
        names = [name for name in (UNEDITED, self.leader) if sheet and name in sheet.methods]
        return [(name, [line.tiles[sheet.methods.index(name)] for line in sheet.lines]) for name in names]


def section(study: Collected, numbers: Numbers, cell: Cell, *, show_sensitive: bool = False) -> Section:
    """Gathers one table of the study; images of a sensitive concept are blurred unless asked for."""
    hide = study.sensitive[cell.concept] and not show_sensitive
    named = wording.contestants(study, numbers, cell)
    grids = [found for prompts in SETS if (found := grid(study, cell, prompts, methods=named))]
    chart, curves = tradeoff_figure(study, numbers, cell), curves_figure(study, numbers, cell)
    return Section(
        cell=cell,
        family=study.families[cell.backbone],
        blurred=hide,
        findings=(*wording.finding(study, numbers, cell), *cosines(numbers, cell)),
        leader=wording.leader(study, numbers, cell) or "",
        columns=tuple(columns(numbers, cell)),
        rows=tuple(_rows(study, numbers, cell, hide)),
        sheets=tuple(_sheet(study, found, hide) for found in grids),
        tradeoff=themed_svg(chart, f"{cell}-tradeoff", f"Erasure against preservation, {cell}") if chart else "",
        curves=themed_svg(curves, f"{cell}-loss", f"Loss curves of each method, {cell}") if curves else "",
        sweeps=tuple(_sweep(numbers, cell, found) for found in sweeps(study, numbers, cell)),
        missing=tuple(name for name in study.missing if name.startswith(f"{cell.backbone}/{cell.concept}/")),
    )


def _sweep(numbers: Numbers, cell: Cell, found: Sweep) -> tuple[str, str]:
    name, about = f"{cell}-sweep-{found.method}", f"Rates over the settings of {found.method}, {cell}"
    return found.method, themed_svg(sweep_figure(numbers, cell, found), name, about)


def _rows(study: Collected, numbers: Numbers, cell: Cell, hide: bool) -> Iterator[Row]:
    methods, shown = study.methods(cell), columns(numbers, cell)
    drawn, leads = styles(methods), {column: best(numbers, cell, column) for column in shown}
    for method in methods:
        entries = (_entry(numbers.get((cell, method, c.prompts, c.metric)), c, method == leads[c]) for c in shown)
        spent = tuple(costs(cost(study, cell, method)))
        behind = evidence(study, numbers, cell, method, hide=hide)
        yield Row(method, drawn[method], method in REFERENCES, tuple(entries), spent, behind)


def _entry(number: Number | None, column: Column, leads: bool) -> Entry | None:
    if number is None:
        return None
    return Entry(
        column, number, wording.written(number.value, column.metric), wording.interval(number, column.metric), leads
    )


def _sheet(study: Collected, found: Grid, hide: bool) -> Sheet:
    results = {result.method: result for result in study.of(found.cell) if result.seed == found.seed}
    lines = []
    for number, sample in enumerate(found.rows):
        tiles = (
            tile(samples[number], judgements(results[method], found.prompts, samples[number].index), hide=hide)
            for method, samples in found.images.items()
        )
        lines.append(Line(sample.prompt, sample.seed, tuple(tiles)))
    return Sheet(found.prompts, tuple(found.images), tuple(lines))
