"""bench: what every stage of the last runs spent its time on, read from the records beside the results."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stages.cli import entry

COLUMNS = ("stage", "jobs", "import s", "set-up s", "work s", "images/s", "peak MB", "import > work")


@entry
def main(argv: Sequence[str] | None = None) -> int:
    """Prints one line per stage: medians of seconds, images per second, the largest peak of memory.

    `--stepwise` measures instead what backpropagation by steps costs beside that through the whole unrolled graph.
    """
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--artifacts", default="artifacts", type=Path)
    parser.add_argument("--stepwise", metavar="BACKBONE", help="time gradients of minimalist masks there instead")
    args = parser.parse_args(argv)
    if args.stepwise:
        from stages import bench_stepwise

        out = args.artifacts / "bench-stepwise.json"
        return bench_stepwise.main(["--backbone", args.stepwise, "--out", str(out)])
    records = [json.loads(path.read_text()) for path in sorted(args.artifacts.rglob("record-*.json"))]
    records = [record for record in records if "phases" in record]
    if not records:
        raise FileNotFoundError(f"no records in {args.artifacts}: run a study first, for instance with make reproduce")
    sys.stdout.write(render(summarise(records)) + "\n")
    return 0


def summarise(records: Sequence[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """One row of COLUMNS per stage (training by method, pretraining by what was trained), in order of first mention."""
    import pandas as pd

    table = pd.DataFrame(
        {
            "stage": label(record),
            **record["phases"],
            "images": (record.get("notes") or {}).get("images"),
            "peak": record["peak_memory_mb"],
        }
        for record in records
    )
    rows = []
    for stage, group in table.groupby("stage", sort=True):
        middle = group[["import", "set_up", "work"]].median()
        speed = (group["images"].astype(float) / group["work"]).median()
        late = int((group["import"] > group["work"]).sum())
        rows.append((stage, len(group), *middle.round(2), round(speed, 1), round(group["peak"].max()), late))
    return rows


def label(record: dict[str, Any]) -> str:
    """`train esd`, `pretrain judge`, `sample`."""
    params = record.get("params") or {}
    detail = {"train": str(params.get("class", "")).rpartition(".")[2], "pretrain": params.get("what", "")}
    return f"{record['stage']} {detail.get(record['stage'], '')}".strip()


def render(rows: Sequence[tuple[Any, ...]]) -> str:
    """The rows as a table of aligned columns; what a stage does not have is a dash."""
    cells = [COLUMNS, *(tuple("-" if value != value else str(value) for value in row) for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(COLUMNS))]
    lines = [
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in cells
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
