"""report: tables, figures, grids and the page of a study, from the results of the other stages."""

from __future__ import annotations

import argparse
import io
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from stages.launch.cli import entry
from stages.params.layout import ARTIFACTS
from stages.params.project import located
from stages.store.files import replacing, write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from stages.reporting.attempts import Attempts
    from stages.reporting.collected import Cell, Collected
    from stages.reporting.numbers import Numbers
    from stages.reporting.sweeps import Sweep

log = logging.getLogger("report")


@entry
def main(argv: Sequence[str] | None = None) -> int:
    """Writes tables/, figures/ and report/ under --out for a study whose runs are measured there.

    Tables come first, and a figure, grid or part of the page that fails costs only itself: one line in the log, and one
    on the page.
    """
    options = argparse.ArgumentParser(description=main.__doc__)
    options.add_argument("--study", required=True, help="a file of params/studies/")
    options.add_argument("--out", help="the artifacts tree, read and written (default: artifacts)")
    options.add_argument("--params", default="params", help="folder of the params files (default: params)")
    options.add_argument("--show-sensitive", action="store_true", help="do not blur the images of sensitive concepts")
    args = options.parse_args(argv)
    from stages.reporting.attempts import Attempts
    from stages.reporting.collect import collect
    from stages.reporting.page import render
    from stages.reporting.tables import results
    from stages.reporting.texts import all_numbers, table_texts

    out = Path(args.out or located(ARTIFACTS))
    study = collect(args.study, out, args.params)
    for name in study.missing:
        log.warning("not measured, left out: %s", name)
    for caveat in study.caveats:
        log.warning("%s", caveat)
    numbers, attempts = all_numbers(study), Attempts()
    frame = results(study, numbers)
    for name, text in table_texts(study, frame, numbers).items():
        write_text(out / "tables" / name, text)
    write_figures(study, numbers, out / "figures", attempts, show_sensitive=args.show_sensitive)
    page = render(study, numbers, attempts, params=args.params, show_sensitive=args.show_sensitive)
    write_text(out / "report" / "index.html", page)
    log.info("%d numbers of %d runs; open %s", len(frame), len(study.results), out / "report" / "index.html")
    return 0


def write_figures(study: Collected, numbers: Numbers, out: Path, attempts: Attempts, *, show_sensitive: bool) -> None:
    """Each figure and grid as a PNG such as demo-sd-shapes-red-tradeoff.png.

    One that cannot be drawn is left out; a file of an earlier report under its name is removed.
    """
    out.mkdir(parents=True, exist_ok=True)
    for cell in study.cells():
        for kind, draw in _drawings(study, numbers, cell, attempts, show_sensitive):
            path = out / f"{study.name}-{cell}-{kind}.png"
            content = attempts(f"figures/{path.name}", draw, place=str(cell))
            if content:
                write_bytes(path, content)
            else:
                path.unlink(missing_ok=True)


def _drawings(
    study: Collected, numbers: Numbers, cell: Cell, attempts: Attempts, show_sensitive: bool
) -> Iterator[tuple[str, Callable[[], bytes | None]]]:
    """The kinds of figures of one table, each with a function that draws its PNG; None if there is nothing to draw."""
    from stages.reporting import grids, plots
    from stages.reporting.leaders import contestants
    from stages.reporting.sweeps import sweeps

    def sheet(prompts: str) -> bytes | None:
        samples = grids.grid(study, cell, prompts, methods=contestants(study, numbers, cell))
        if samples is None:
            return None
        buffer = io.BytesIO()
        hide = study.sensitive[cell.concept] and not show_sensitive
        grids.draw(samples, hide=hide).save(buffer, "PNG", optimize=True)
        return buffer.getvalue()

    def swept(sweep: Sweep) -> bytes | None:
        return _png(plots.sweep_figure(numbers, cell, sweep))

    yield "tradeoff", lambda: _png(plots.tradeoff_figure(study, numbers, cell))
    yield "loss", lambda: _png(plots.curves_figure(study, numbers, cell))
    for sweep in attempts("sweeps", lambda: sweeps(study, numbers, cell), place=str(cell)) or ():
        yield f"sweep-{sweep.method}", partial(swept, sweep)
    for prompts in grids.SETS:
        yield f"grid-{prompts}", partial(sheet, prompts)


def _png(figure: Figure | None) -> bytes | None:
    from stages.reporting.figures import png

    return png(figure) if figure else None


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file whole."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


if __name__ == "__main__":
    sys.exit(main())
