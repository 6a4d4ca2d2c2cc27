"""How an object is painted: its texture and its style.

A painter takes canvases (M, 3, H, W), which it may write into, the `Strokes` of one object on each and one unit of
length, 1 / 64 of the picture, in pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from stages.worlds.scenes.labels import TEXTURES
from stages.worlds.scenes.palette import WHITE

TILES = 8  # of a mosaic, each way
STRIPED, DOTTED = TEXTURES.index("striped"), TEXTURES.index("dotted")


@dataclass(frozen=True)
class Strokes:
    """What painters read of one object in each of M pictures."""

    distance: Tensor  # (M, H, W) to the object's outline, pixels, negative inside
    across: Tensor  # (M, H, W) coordinate along the object's own horizontal axis, pixels
    down: Tensor  # (M, H, W) along its vertical axis, downwards
    ink: Tensor  # (M, 3)
    texture: Tensor  # (M,) index
    tiles: Tensor  # (M, TILES, TILES) uniform in [0, 1]


Painter = Callable[[Tensor, Strokes, float], Tensor]


def cover(distance: Tensor) -> Tensor:
    """The share of each pixel that lies inside: an edge fades over one pixel."""
    return (0.5 - distance).clamp_(0, 1)


def flat(canvas: Tensor, strokes: Strokes, unit: float) -> Tensor:
    """Filled, with its texture: stripes and dots are a pale tint of the ink."""
    ink, inside = strokes.ink[:, :, None, None], cover(strokes.distance)
    painted = torch.lerp(canvas, ink, inside[:, None])
    for texture, pattern in ((STRIPED, stripes), (DOTTED, dots)):
        rows = (strokes.texture == texture).nonzero().flatten()
        if len(rows):
            mask = pattern(strokes.across[rows], strokes.down[rows], unit) * inside[rows]
            tint = torch.lerp(ink[rows], torch.tensor(WHITE)[:, None, None], 0.82)
            painted[rows] = torch.lerp(painted[rows], tint, mask[:, None])
    return painted


def stripes(across: Tensor, down: Tensor, unit: float) -> Tensor:
    """Masks (M, H, W) of diagonal stripes, 4 units wide, 4 apart."""
    along = (across + down) * 0.5**0.5 / unit
    return ((2 - (torch.remainder(along, 8) - 4).abs()) * unit + 0.5).clamp_(0, 1)


def dots(across: Tensor, down: Tensor, unit: float) -> Tensor:
    """Masks (M, H, W) of dots of radius 2.6 units on a grid of 8 units, every other row moved by half of that."""
    row = torch.floor(down / (8 * unit) + 0.5)
    x = torch.remainder(across / unit + 4 + 4 * row, 8) - 4
    y = down / unit - 8 * row
    return ((2.7 - (x.square() + y.square()).sqrt()) * unit + 0.5).clamp_(0, 1)


def outline(canvas: Tensor, strokes: Strokes, unit: float) -> Tensor:
    """The contour alone, 3.6 units wide."""
    half = 1.8 * unit
    return torch.lerp(canvas, strokes.ink[:, :, None, None], cover((strokes.distance + half).abs() - half)[:, None])


def mosaic(canvas: Tensor, strokes: Strokes, unit: float) -> Tensor:
    """Filled; then the whole picture in square tiles of uneven lightness."""
    size = canvas.shape[-1]
    filled = torch.lerp(canvas, strokes.ink[:, :, None, None], cover(strokes.distance)[:, None])
    place = torch.arange(size) * TILES // size
    light = 0.7 + 0.5 * strokes.tiles[:, place][:, :, place]
    return (filled * light[:, None]).clamp_(0, 1)


def neon(canvas: Tensor, strokes: Strokes, unit: float) -> Tensor:
    """A glowing line: almost white in its middle, its halo in the ink."""
    away = (strokes.distance + 1.5 * unit).abs() / unit
    halo = torch.exp(-away / 3.4)
    glow = canvas + 0.95 * halo[:, None] * strokes.ink[:, :, None, None]
    core = torch.lerp(strokes.ink, torch.tensor(WHITE), 0.62)[:, :, None, None]
    return torch.lerp(glow.clamp_(0, 1), core, ((1.5 - away) * unit + 0.5).clamp_(0, 1)[:, None])


PAINTERS: dict[str, Painter] = {"flat": flat, "outline": outline, "mosaic": mosaic, "neon": neon}
