"""One section of the page per table: its findings, rows, figures and grids, ready for the template."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from matplotlib.figure import Figure

from stages.metrics.base import Column
from stages.reporting.attempts import Attempts
from stages.reporting.bars import comparable, verdict
from stages.reporting.collected import CONTROLS, REFERENCES, UNEDITED, Cell, Collected
from stages.reporting.evidence import Evidence, Tile, departs, evidence, judgements, tile
from stages.reporting.figures import Style, styles, themed_svg
from stages.reporting.findings import cosines, findings
from stages.reporting.formats import interval, written
from stages.reporting.grids import SETS, Grid, grid
from stages.reporting.leaders import contestants, leader, marks
from stages.reporting.machines import mixture
from stages.reporting.markdown import costs
from stages.reporting.notes import notes
from stages.reporting.numbers import Number, Numbers
from stages.reporting.plots import curves_figure, sweep_figure, tradeoff_figure
from stages.reporting.summary import cost
from stages.reporting.sweeps import sweeps


@dataclass(frozen=True)
class Entry:
    """One number of a row."""

    column: Column
    number: Number
    value: str  # as text
    interval: str  # as text, empty without one
    best: bool  # whether it leads, or cannot be told from what leads


@dataclass(frozen=True)
class Row:
    """One method of a table."""

    method: str
    style: Style
    reference: bool  # the unedited model, the oracle, or what costs nothing
    entries: tuple[Entry | None, ...]  # of each column, None if it was not measured
    verdict: str  # what it does, in words; empty if nothing can be compared
    costs: tuple[str, ...]  # seconds, memory and parameters as text
    departs: str  # what makes it another kind of method than its file
    evidence: Evidence


@dataclass(frozen=True)
class Line:
    """One prompt of a grid with each method's image for it."""

    prompt: str
    seed: int
    tiles: tuple[Tile, ...]  # of each method of the sheet


@dataclass(frozen=True)
class Sheet:
    """A grid on the page."""

    prompts: str  # the prompt set
    methods: tuple[str, ...]
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Section:
    """Everything the page shows of one backbone and concept."""

    cell: Cell
    family: str  # of the backbone
    blurred: bool  # whether images are hidden
    findings: tuple[str, ...]  # sentences
    comparable: bool  # whether the unedited model leaves anything to do
    leader: str  # the method with the best trade, empty without one
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    sheets: tuple[Sheet, ...]
    tradeoff: str  # an SVG element, empty if there is nothing to draw
    curves: str  # likewise
    sweeps: tuple[tuple[str, str], ...]  # a swept method and its heat maps
    notes: tuple[str, ...]  # sentences under the table
    missing: tuple[str, ...]  # runs that are not finished
    mixture: str  # a sentence about a table of several machines, empty for one
    failed: Mapping[str, str]  # part that could not be drawn -> the reason

    def strips(self) -> list[tuple[str, list[Tile]]]:
        """The first grid's images before and after: the unedited model's, then the leader's."""
        if not self.sheets:
            return []
        sheet = self.sheets[0]
        names = [name for name in (UNEDITED, self.leader) if name in sheet.methods]
        return [(name, [line.tiles[sheet.methods.index(name)] for line in sheet.lines]) for name in names]


def section(
    study: Collected, numbers: Numbers, cell: Cell, *, attempts: Attempts, show_sensitive: bool = False
) -> Section:
    """Gathers one table of the study; images of a sensitive concept are blurred unless asked for."""
    hide = study.sensitive[cell.concept] and not show_sensitive
    rows = tuple(_rows(study, numbers, cell, hide, attempts))
    sheets = tuple(_sheets(study, numbers, cell, hide, attempts))
    charts = _Charts(cell, attempts)
    tradeoff = charts.svg("tradeoff", "Erasure against preservation", lambda: tradeoff_figure(study, numbers, cell))
    curves = charts.svg("loss", "Loss curves of each method", lambda: curves_figure(study, numbers, cell))
    heat_maps = attempts("sweeps", lambda: tuple(_sweeps(study, numbers, cell, charts)), place=str(cell)) or ()
    return Section(
        cell=cell,
        family=study.families[cell.backbone],
        blurred=hide,
        findings=(*findings(study, numbers, cell), *cosines(numbers, cell)),
        comparable=comparable(numbers, cell),
        leader=leader(study, numbers, cell) or "",
        columns=tuple(marks(study, numbers, cell)),
        rows=rows,
        sheets=sheets,
        tradeoff=tradeoff,
        curves=curves,
        sweeps=heat_maps,
        notes=tuple(notes(study, numbers, cell)),
        missing=tuple(study.absent(cell)),
        mixture=mixture(study, cell),
        failed=attempts.failed(str(cell)),
    )


@dataclass(frozen=True)
class _Charts:
    """Draws the charts of one table for the page."""

    cell: Cell
    attempts: Attempts

    def svg(self, name: str, description: str, draw: Callable[[], Figure | None]) -> str:
        """A chart as an SVG element; empty if there is nothing to draw, or if drawing failed."""

        def make() -> str:
            figure = draw()
            return themed_svg(figure, f"{self.cell}-{name}", f"{description}, {self.cell}") if figure else ""

        return self.attempts(f"{name} chart", make, place=str(self.cell)) or ""


def _sweeps(study: Collected, numbers: Numbers, cell: Cell, charts: _Charts) -> Iterator[tuple[str, str]]:
    for sweep in sweeps(study, numbers, cell):
        about = f"Rates over the settings of {sweep.method}"
        svg = charts.svg(f"sweep-{sweep.method}", about, partial(sweep_figure, numbers, cell, sweep))
        if svg:
            yield sweep.method, svg


def _rows(study: Collected, numbers: Numbers, cell: Cell, hide: bool, attempts: Attempts) -> Iterator[Row]:
    methods, leads = study.methods(cell), marks(study, numbers, cell)
    looks = styles(methods)
    for method in methods:
        entries = (
            _entry(numbers.get((cell, method, c.prompts, c.metric)), c, method in lead) for c, lead in leads.items()
        )
        spent = tuple(costs(cost(study, cell, method)))
        behind = evidence(study, numbers, cell, method, hide=hide, attempts=attempts)
        reference = method in (*REFERENCES, *CONTROLS)
        said = "" if method == UNEDITED else verdict(numbers, cell, method)
        kind = departs(study.of(cell, method)[0])
        yield Row(method, looks[method], reference, tuple(entries), said, spent, kind, behind)


def _entry(number: Number | None, column: Column, leads: bool) -> Entry | None:
    if number is None:
        return None
    return Entry(column, number, written(number.value, column.metric), interval(number, column.metric), leads)


def _sheets(study: Collected, numbers: Numbers, cell: Cell, hide: bool, attempts: Attempts) -> Iterator[Sheet]:
    methods = contestants(study, numbers, cell)
    for prompts in SETS:

        def make(prompts: str = prompts) -> Sheet | None:
            samples = grid(study, cell, prompts, methods=methods)
            return _sheet(study, samples, hide) if samples else None

        if sheet := attempts(f"grid of {prompts} prompts", make, place=str(cell)):
            yield sheet


def _sheet(study: Collected, samples: Grid, hide: bool) -> Sheet:
    results = {
        result.method: result
        for result in study.of(samples.cell)
        if (result.backbone, result.seed) == (samples.backbone, samples.seed)
    }
    lines = []
    for number, first in enumerate(samples.rows):
        tiles = (
            tile(images[number], judgements(results[method], samples.prompts, images[number].index), hide=hide)
            for method, images in samples.images.items()
        )
        lines.append(Line(first.prompt, first.seed, tuple(tiles)))
    return Sheet(samples.prompts, tuple(samples.images), tuple(lines))
