"""From numbers to pictures: backgrounds, and the objects and figures on them."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from stages.worlds.scenes.figures import CONTOUR, PARTS
from stages.worlds.scenes.labels import FIGURES, OBJECTS, STYLES
from stages.worlds.scenes.looks import PAINTERS, Strokes, cover
from stages.worlds.scenes.objects import DISTANCES
from stages.worlds.scenes.palette import Colour

CHUNK = 64  # pictures painted at a time, so that they stay in the processor's cache
RIM = 0.9  # units that a figure's contour is wide


@dataclass(frozen=True)
class Things:
    """One object or figure in each of M pictures, as numbers. Lengths are pixels."""

    object: Tensor  # (M,) index into OBJECTS; read if `figure` is -1
    figure: Tensor  # (M,) index into FIGURES, -1 for an object
    texture: Tensor  # (M,) index
    style: Tensor  # (M,) index
    ink: Tensor  # (M, 3) in [0, 1]
    centre: Tensor  # (M, 2) x and y from the middle of the picture, y downwards
    radius: Tensor  # (M,)
    angle: Tensor  # (M,) radians, counter-clockwise
    tiles: Tensor  # (M, TILES, TILES) uniform in [0, 1], read by mosaics

    def __getitem__(self, rows: Tensor | slice) -> "Things":
        """Those of some pictures."""
        return Things(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


@torch.no_grad()
def rasterise(paper: Tensor, things: Things, size: int, others: tuple[Tensor, Things] | None = None) -> Tensor:
    """Returns pictures (N, 3, size, size) in [0, 1] of one thing each on `paper` (N, 3).

    `others` are the second things of the pictures with these indices, which rise.
    """
    images = torch.empty(len(paper), 3, size, size)
    for start in range(0, len(paper), CHUNK):
        rows = slice(start, start + CHUNK)
        canvas = paper[rows, :, None, None].repeat(1, 1, size, size)
        paint(canvas, torch.arange(len(canvas)), things[rows])
        if others is not None:
            which = ((others[0] >= start) & (others[0] < start + CHUNK)).nonzero().flatten()
            paint(canvas, others[0][which] - start, others[1][which])
        images[rows] = canvas
    return images


def paint(canvas: Tensor, rows: Tensor, things: Things) -> None:
    """Paints things onto these rows of a canvas (N, 3, H, W)."""
    size = canvas.shape[-1]
    axis = torch.arange(size, dtype=torch.float32) - (size - 1) / 2
    x, y = (
        (axis - things.centre[:, :1]).unsqueeze(1),
        (axis - things.centre[:, 1:]).unsqueeze(2),
    )  # (M, 1, W), (M, H, 1)
    cos, sin = (f(things.angle)[:, None, None] for f in (torch.cos, torch.sin))
    across, down = cos * x - sin * y, sin * x + cos * y  # (M, H, W), along the thing's own axes
    for index, name in enumerate(FIGURES):
        own = (things.figure == index).nonzero().flatten()
        if len(own):
            canvas[rows[own]] = face(canvas[rows[own]], name, across[own], down[own], things.radius[own, None, None])
    distance = torch.empty_like(across)
    for index, name in enumerate(OBJECTS):
        own = ((things.object == index) & (things.figure < 0)).nonzero().flatten()
        if len(own):
            distance[own] = DISTANCES[name](across[own], down[own], things.radius[own, None, None])
    for index, name in enumerate(STYLES):
        own = ((things.style == index) & (things.figure < 0)).nonzero().flatten()
        if len(own):
            strokes = Strokes(
                *(each[own] for each in (distance, across, down, things.ink, things.texture, things.tiles))
            )
            canvas[rows[own]] = PAINTERS[name](canvas[rows[own]], strokes, size / 64)


def face(canvas: Tensor, name: str, across: Tensor, down: Tensor, radius: Tensor) -> Tensor:
    """Canvases (M, 3, H, W) with a figure of `radius` (M, 1, 1) pixels at coordinates (M, H, W) from its middle."""
    x, y = across / radius, down / radius
    forms = [(part, part.form(x, y) * radius) for part in PARTS[name]]
    rim = RIM * canvas.shape[-1] / 64
    silhouette = torch.stack([distance for part, distance in forms if part.silhouette]).amin(0)
    canvas = tinted(canvas, CONTOUR, cover(silhouette - rim))
    for part, distance in forms:
        if part.silhouette:
            canvas = tinted(canvas, CONTOUR, cover(distance - rim))
        canvas = tinted(canvas, part.colour, cover(distance))
    return canvas


def tinted(canvas: Tensor, colour: Colour, mask: Tensor) -> Tensor:
    """Canvases (M, 3, H, W) with a colour where masks (M, H, W) say so."""
    return torch.lerp(canvas, torch.tensor(colour)[:, None, None], mask[:, None])
