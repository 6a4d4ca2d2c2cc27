"""Side-by-side grids: the unedited model and each method on the same prompts and seeds."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont

from stages.reporting.collect import UNEDITED, Cell, Collected
from stages.reporting.images import Sample, blurred, fitted, middle, read_samples

SETS = ("concept", "retain")  # the prompt sets shown side by side
ROWS = 6
SIDE, GAP, LEFT, TOP = 96, 6, 190, 34  # pixels: an image, between images, the prompts' column, the methods' line
LINE = 14  # pixels of one line of a method's name
INK, MUTED, PAPER = "#231f1a", "#6e675d", "#ffffff"
FONT = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"


@dataclass(frozen=True)
class Grid:
    """The same samples of each method: `images[method]` runs parallel to `rows`."""

    cell: Cell
    prompts: str
    seed: int
    rows: tuple[Sample, ...]  # of the unedited model, or of the first method where that is missing
    images: Mapping[str, tuple[Sample, ...]]


def grid(
    study: Collected, cell: Cell, prompts: str, rows: int = ROWS, methods: Sequence[str] | None = None
) -> Grid | None:
    """A few samples spread evenly over the prompts, none chosen by eye; None when nothing was sampled of this set."""
    seed = study.seeds(cell)[0]
    found = {
        result.method: read_samples(result.pictures(prompts))
        for method in (study.methods(cell) if methods is None else methods)
        for result in study.of(cell, method)
        if result.seed == seed and result.pictures(prompts).is_dir()
    }
    if not found:
        return None
    by_index = {method: {sample.index: sample for sample in samples} for method, samples in found.items()}
    leader = found.get(UNEDITED) or next(iter(found.values()))
    shared = [sample for sample in leader if all(sample.index in samples for samples in by_index.values())]
    rows_of = tuple(spread(shared, rows))
    images = {method: tuple(samples[row.index] for row in rows_of) for method, samples in by_index.items()}
    return Grid(cell, prompts, seed, rows_of, images)


def spread(samples: Sequence[Sample], n: int) -> list[Sample]:
    """n samples at even distances when ordered by prompt, so that every prompt has its share."""
    ordered = sorted(samples, key=lambda sample: (sample.prompt, sample.index))
    chosen = (
        [ordered[(2 * number + 1) * len(ordered) // (2 * n)] for number in range(n)] if len(ordered) > n else ordered
    )
    return sorted(chosen, key=lambda sample: sample.index)


def draw(grid: Grid, *, hide: bool) -> Image.Image:
    """The grid as one image: methods on top, prompts at the left, clips by their middle frame, blurred if `hide`."""
    font, small = ImageFont.truetype(FONT, 13), ImageFont.truetype(FONT, 11)
    names = {method: _wrapped({UNEDITED: "unedited"}.get(method, method), small, SIDE) for method in grid.images}
    top = max([TOP, *(LINE * (name.count("\n") + 1) + GAP for name in names.values())])
    sheet = Image.new("RGB", (LEFT + len(names) * (SIDE + GAP), top + len(grid.rows) * (SIDE + GAP)), PAPER)
    pen = ImageDraw.Draw(sheet)
    for column, (method, name) in enumerate(names.items()):
        left = LEFT + column * (SIDE + GAP)
        pen.multiline_text((left, top - 6), name, INK, small, anchor="ld", spacing=1)
        for row, sample in enumerate(grid.images[method]):
            sheet.paste(_tile(sample, hide), (left, top + row * (SIDE + GAP)))
    for row, sample in enumerate(grid.rows):
        center = top + row * (SIDE + GAP) + SIDE // 2
        pen.multiline_text((GAP, center + 4), _wrapped(sample.prompt, font, LEFT - 3 * GAP), INK, font, anchor="ld")
        pen.text((GAP, center + 9), f"seed {sample.seed}", MUTED, small, anchor="la")
    return sheet


def _tile(sample: Sample, hide: bool) -> Image.Image:
    image = middle(sample.frames())
    return fitted(blurred(image) if hide else image, SIDE).resize((SIDE, SIDE), Image.Resampling.NEAREST)


def _wrapped(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """Broken at spaces, after underscores, and before and between the fields of a variant."""
    lines = [""]
    for piece in re.findall(r"[^\s_@,]*(?:[_@,]\s*|\s+|$)", text):
        if lines[-1] and font.getlength(lines[-1] + piece.rstrip()) > width:
            lines.append("")
        lines[-1] += piece
    return "\n".join(line.rstrip() for line in lines)
