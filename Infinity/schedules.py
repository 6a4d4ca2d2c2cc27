"""Scale schedules of Infinity (arXiv 2412.04431, dynamic aspect ratios): the grids on which a picture is predicted."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

from .config import MAX_SCALES

Grid = tuple[int, int]

PIXELS_PER_TOKEN = 16

# Number of scales of the 13 that each pixel budget takes.
BUDGETS: dict[str, int] = {"0.06M": 7, "0.25M": 10, "0.60M": 12, "1M": 13}

# Rows x columns of every scale, by the template's height over width. The transposed templates follow from these.
_PORTRAIT: dict[float, str] = {
    1.000: "1x1 2x2 4x4 6x6 8x8 12x12 16x16 20x20 24x24 32x32 40x40 48x48 64x64",
    1.250: "1x1 2x2 3x3 5x4 10x8 15x12 20x16 25x20 30x24 35x28 45x36 55x44 70x56",
    1.333: "1x1 2x2 4x3 8x6 12x9 16x12 20x15 24x18 28x21 36x27 48x36 60x45 72x54",
    1.500: "1x1 2x2 3x2 6x4 9x6 15x10 21x14 27x18 33x22 39x26 48x32 63x42 78x52",
    1.750: "1x1 2x2 3x3 7x4 11x6 14x8 21x12 28x16 35x20 42x24 56x32 70x40 84x48",
    2.000: "1x1 2x2 4x2 6x3 10x5 16x8 22x11 30x15 38x19 46x23 60x30 74x37 90x45",
    2.500: "1x1 2x2 5x2 10x4 15x6 20x8 25x10 30x12 40x16 50x20 65x26 80x32 100x40",
    3.000: "1x1 2x2 6x2 9x3 15x5 21x7 27x9 36x12 45x15 54x18 72x24 90x30 111x37",
}


@dataclass(frozen=True)
class Schedule:
    """The scales of one picture.

    >>> Schedule.of(1, 2, 4, 8)  # your own
    >>> schedule("1M", 1.5)  # a published one

    ValueError for no grid, an empty grid or more than 15 grids.
    """

    grids: tuple[Grid, ...]  # (rows, columns) in tokens, coarse to fine
    reference: Grid  # the grid over which positions are spread

    def __post_init__(self) -> None:
        if not self.grids or any(min(grid) < 1 for grid in self.grids):
            raise ValueError(f"a schedule needs at least one grid of positive size, got {self.grids}")
        if len(self.grids) > MAX_SCALES:
            raise ValueError(f"a schedule has at most {MAX_SCALES} scales, got {len(self.grids)}")

    @classmethod
    def of(cls, *grids: Grid | int, reference: Grid | None = None) -> Schedule:
        """A schedule of your own; a number is a square grid, and `reference` is the last grid by default."""
        pairs = tuple((grid, grid) if isinstance(grid, int) else (int(grid[0]), int(grid[1])) for grid in grids)
        return cls(pairs, reference or pairs[-1])

    def __len__(self) -> int:
        return len(self.grids)

    @property
    def lengths(self) -> tuple[int, ...]:
        """Tokens of each scale."""
        return tuple(rows * columns for rows, columns in self.grids)

    @property
    def ends(self) -> tuple[int, ...]:
        """Tokens up to and including each scale."""
        return tuple(accumulate(self.lengths))

    @property
    def starts(self) -> tuple[int, ...]:
        """Tokens before each scale."""
        return (0, *self.ends[:-1])

    @property
    def tokens(self) -> int:
        """Tokens of all scales."""
        return sum(self.lengths)

    def prefix(self, scales: int) -> Schedule:
        """The first `scales` grids, positions unchanged; ValueError unless there are that many."""
        if not 1 <= scales <= len(self):
            raise ValueError(f"scales must be 1 to {len(self)}, got {scales}")
        return Schedule(self.grids[:scales], self.reference)

    def finer(self, factor: int) -> tuple[Grid, ...]:
        """The tokenizer's grids, if `factor` x `factor` of its cells make one token."""
        return tuple((rows * factor, columns * factor) for rows, columns in self.grids)

    def pixels(self, per_token: int = PIXELS_PER_TOKEN) -> tuple[int, int]:
        """Height and width of the picture in pixels."""
        rows, columns = self.grids[-1]
        return rows * per_token, columns * per_token


def _parse(text: str) -> tuple[Grid, ...]:
    return tuple((int(rows), int(columns)) for rows, columns in (item.split("x") for item in text.split()))


def _templates() -> dict[float, tuple[Grid, ...]]:
    table: dict[float, tuple[Grid, ...]] = {}
    for ratio, text in _PORTRAIT.items():
        grids = _parse(text)
        table[ratio] = grids
        if ratio != 1.0:
            table[int(1000 / ratio) / 1000] = tuple((columns, rows) for rows, columns in grids)
    return table


TEMPLATES: dict[float, tuple[Grid, ...]] = _templates()


def nearest_template(ratio: float) -> float:
    """The template whose height over width is nearest to `ratio`."""
    return min(TEMPLATES, key=lambda template: abs(template - ratio))


def schedule(pn: str, ratio: float = 1.0) -> Schedule:
    """The published schedule of pixel budget `pn` whose template is nearest to height over width `ratio`.

    ValueError for a budget that is not 0.06M, 0.25M, 0.60M or 1M.
    """
    if pn not in BUDGETS:
        raise ValueError(f"pn must be one of {', '.join(BUDGETS)}, got {pn!r}")
    grids = TEMPLATES[nearest_template(ratio)]
    return Schedule(grids[: BUDGETS[pn]], grids[-1])


def schedule_for_size(height: int, width: int) -> Schedule:
    """The published schedule nearest to `height` x `width` pixels: first by ratio, then by area.

    ValueError unless both are positive.
    """
    if min(height, width) < 1:
        raise ValueError(f"height and width must be positive, got {height} x {width}")
    choices = [schedule(pn, height / width) for pn in BUDGETS]
    return min(choices, key=lambda one: abs(one.pixels()[0] * one.pixels()[1] - height * width))
