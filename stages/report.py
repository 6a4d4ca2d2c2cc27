"""report: tables, figures, grids and the page of a study, from what the other stages left."""

from __future__ import annotations

import argparse
import io
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stages.launch.cli import entry
from stages.store.files import replacing, write_json, write_text

if TYPE_CHECKING:
    import pandas as pd

    from stages.reporting.collect import Collected
    from stages.reporting.tables import Numbers

DIGITS = "%.6g"  # enough for any number here, and the same text on every machine
log = logging.getLogger("report")


@entry
def main(argv: Sequence[str] | None = None) -> int:
    """Writes tables/, figures/ and report/ under --out for a study whose runs are measured there."""
    options = argparse.ArgumentParser(description=main.__doc__)
    options.add_argument("--study", required=True, help="a file of params/studies/")
    options.add_argument("--out", default="artifacts", help="the artifacts tree, read and written (default: artifacts)")
    options.add_argument("--params", default="params", help="where studies and methods are described (default: params)")
    options.add_argument("--show-sensitive", action="store_true", help="do not blur the images of sensitive concepts")
    args = options.parse_args(argv)
    from stages.reporting.collect import collect
    from stages.reporting.page import render
    from stages.reporting.tables import pooled, results

    study, out = collect(args.study, args.out, args.params), Path(args.out)
    for name in study.missing:
        log.warning("not measured, left out: %s", name)
    frame = results(study)
    numbers = pooled(frame)
    page = render(study, numbers, params=args.params, show_sensitive=args.show_sensitive)
    figures = draw_figures(study, numbers, show_sensitive=args.show_sensitive)
    write_tables(study, frame, numbers, out / "tables")
    for name, content in figures.items():
        write_bytes(out / "figures" / name, content)
    write_text(out / "report" / "index.html", page)
    log.info("%d numbers of %d runs; open %s", len(frame), len(study.results), out / "report" / "index.html")
    return 0


def write_tables(study: Collected, frame: pd.DataFrame, numbers: Numbers, out: Path) -> None:
    """results.csv, tradeoff.csv (for `dvc plots`), summary.json (for `dvc metrics`) and the tables for readers."""
    from stages.reporting.markdown import markdown
    from stages.reporting.overview import matrix
    from stages.reporting.summary import flat, tradeoff

    for name, table in {"results.csv": frame, "tradeoff.csv": tradeoff(study, numbers)}.items():
        write_text(out / name, table.to_csv(index=False, float_format=DIGITS, lineterminator="\n"))
    write_text(out / f"{study.name}.md", matrix(study, numbers))
    for cell in study.cells():
        write_text(out / f"{study.name}-{cell}.md", markdown(study, numbers, cell))
    write_json(out / "summary.json", flat(study, numbers))


def draw_figures(study: Collected, numbers: Numbers, *, show_sensitive: bool) -> dict[str, bytes]:
    """Each figure and grid as PNG under its file name, such as demo-sd-shapes-red-tradeoff.png."""
    from stages.reporting import figures, grids, plots
    from stages.reporting.sweeps import sweeps
    from stages.reporting.wording import contestants

    drawn = {}
    for cell in study.cells():
        named = contestants(study, numbers, cell)
        charts = {
            "tradeoff": plots.tradeoff_figure(study, numbers, cell),
            "loss": plots.curves_figure(study, numbers, cell),
        }
        charts |= {f"sweep-{s.method}": plots.sweep_figure(numbers, cell, s) for s in sweeps(study, numbers, cell)}
        drawn |= {f"{study.name}-{cell}-{kind}.png": figures.png(chart) for kind, chart in charts.items() if chart}
        for prompts in grids.SETS:
            if found := grids.grid(study, cell, prompts, methods=named):
                sheet = io.BytesIO()
                hide = study.sensitive[cell.concept] and not show_sensitive
                grids.draw(found, hide=hide).save(sheet, "PNG", optimize=True)
                drawn[f"{study.name}-{cell}-grid-{prompts}.png"] = sheet.getvalue()
    return drawn


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file whole."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


if __name__ == "__main__":
    sys.exit(main())
