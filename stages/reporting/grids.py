"""Side-by-side grids: the unedited model and each method on the same prompts and seeds."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont

from stages.reporting.collected import UNEDITED, Cell, Collected
from stages.reporting.images import Sample, blurred, fitted, middle, samples_in

SETS = ("concept", "retain")  # the prompt sets shown side by side
ROWS = 6  # of a grid
SIDE, GAP, LEFT, TOP = 96, 6, 190, 34  # pixels: an image, between images, the prompts' column, the methods' line
LINE = 14  # pixels of one line of a method's name
TEXT_LINE, TEXT_LINES = 16, 5  # pixels of one line of a prompt, and the lines that a row has room for
LONGEST = 400  # characters of a prompt that are looked at: more than fit
INK, MUTED, PAPER = "#231f1a", "#6e675d", "#ffffff"
FONT = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"


@dataclass(frozen=True)
class Grid:
    """The same samples of each method."""

    cell: Cell
    prompts: str  # the prompt set
    backbone: str
    seed: int
    rows: tuple[Sample, ...]  # of the unedited model, or of the first method if that is missing
    images: Mapping[str, tuple[Sample, ...]]  # method -> its samples, parallel to `rows`


def grid(
    study: Collected, cell: Cell, prompts: str, rows: int = ROWS, methods: Sequence[str] | None = None
) -> Grid | None:
    """A few samples spread evenly over the prompts, none chosen by eye; None when nothing was sampled of this set."""
    backbone, seed = study.backbones(cell)[0], study.seeds(cell)[0]
    sampled = {
        result.method: samples_in(result.pictures(prompts))
        for method in (study.methods(cell) if methods is None else methods)
        for result in study.of(cell, method)
        if (result.backbone, result.seed) == (backbone, seed) and result.pictures(prompts).is_dir()
    }
    if not sampled:
        return None
    by_index = {method: {sample.index: sample for sample in samples} for method, samples in sampled.items()}
    first = sampled.get(UNEDITED) or next(iter(sampled.values()))
    shared = spread([sample for sample in first if all(sample.index in other for other in by_index.values())], rows)
    images = {method: tuple(samples[row.index] for row in shared) for method, samples in by_index.items()}
    return Grid(cell, prompts, backbone, seed, tuple(shared), images)


def spread(samples: Sequence[Sample], n: int) -> list[Sample]:
    """n samples at even distances when ordered by prompt, so that every prompt has its share."""
    ordered = sorted(samples, key=lambda sample: (sample.prompt, sample.index))
    if len(ordered) > n:
        ordered = [ordered[(2 * number + 1) * len(ordered) // (2 * n)] for number in range(n)]
    return sorted(ordered, key=lambda sample: sample.index)


def draw(grid: Grid, *, hide: bool) -> Image.Image:
    """The grid as one image: methods on top, prompts at the left, clips by their middle frame, blurred if `hide`."""
    font, small = ImageFont.truetype(FONT, 13), ImageFont.truetype(FONT, 11)
    names = {method: wrapped({UNEDITED: "unedited"}.get(method, method), small, SIDE) for method in grid.images}
    top = max([TOP, *(LINE * len(lines) + GAP for lines in names.values())])
    sheet = Image.new("RGB", (LEFT + len(names) * (SIDE + GAP), top + len(grid.rows) * (SIDE + GAP)), PAPER)
    pen = ImageDraw.Draw(sheet)
    for column, (method, lines) in enumerate(names.items()):
        left = LEFT + column * (SIDE + GAP)
        pen.multiline_text((left, top - 6), "\n".join(lines), INK, small, anchor="ld", spacing=1)
        for row, sample in enumerate(grid.images[method]):
            sheet.paste(_tile(sample, hide), (left, top + row * (SIDE + GAP)))
    for row, sample in enumerate(grid.rows):
        lines = wrapped(sample.prompt, font, LEFT - 3 * GAP, TEXT_LINES)
        bottom = top + row * (SIDE + GAP) + max(SIDE // 2 + 4, TEXT_LINE * len(lines))
        pen.multiline_text((GAP, bottom), "\n".join(lines), INK, font, anchor="ld")
        pen.text((GAP, bottom + 5), f"seed {sample.seed}", MUTED, small, anchor="la")
    return sheet


def _tile(sample: Sample, hide: bool) -> Image.Image:
    image = middle(sample.frames())
    return fitted(blurred(image) if hide else image, SIDE).resize((SIDE, SIDE), Image.Resampling.NEAREST)


def wrapped(text: str, font: ImageFont.FreeTypeFont, width: int, most: int | None = None) -> list[str]:
    """The lines of a text, each at most `width` pixels wide; only the first `most`, which then end in an ellipsis.

    Broken at white space, after underscores, before and between the fields of a variant, and inside longer words. Line
    breaks and control characters of any script count as white space, since the layout engine refuses them.
    """
    lines = [""]
    for piece in re.findall(r"[^\s_@,]*(?:[_@,]\s*|\s+|$)", _in_one_line(text)):
        for part in _parts(piece, font, width):
            if lines[-1] and font.getlength(lines[-1] + part.rstrip()) > width:
                lines.append("")
            lines[-1] += part
    lines = [line.rstrip() for line in lines]
    return lines if most is None or len(lines) <= most else [*lines[: most - 1], f"{lines[most - 1][:-1]}…"]


def _in_one_line(text: str) -> str:
    printable = (" " if unicodedata.category(character) in ("Cc", "Cs") else character for character in text)
    joined = " ".join("".join(printable).split())
    return joined if len(joined) <= LONGEST else f"{joined[:LONGEST]}…"


def _parts(piece: str, font: ImageFont.FreeTypeFont, width: int) -> Iterator[str]:
    """The piece, or as many characters of it at a time as fit."""
    while len(piece) > 1 and font.getlength(piece.rstrip()) > width:
        fits = next((n for n in range(len(piece) - 1, 1, -1) if font.getlength(piece[:n]) <= width), 1)
        yield piece[:fits]
        piece = piece[fits:]
    yield piece
