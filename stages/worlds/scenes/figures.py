"""The six figures: faces made of parts, each figure with a fixed look of its own.

A part lies in units of the figure's radius, x to the right and y downwards from the middle. Parts are painted in order;
those of the silhouette get a dark contour first.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from stages.worlds.scenes.palette import WHITE, Colour

Form = Callable[[Tensor, Tensor], Tensor]  # coordinates (M, H, W) -> signed distance, in radii
BLACK: Colour = (0.10, 0.09, 0.12)
CONTOUR: Colour = (0.16, 0.13, 0.18)


@dataclass(frozen=True)
class Part:
    """A painted form."""

    form: Form
    colour: Colour
    silhouette: bool = False


def ellipse(x: float, y: float, width: float, height: float = 0.0, *, twice: bool = False) -> Form:
    """An ellipse of half sizes `width` and `height` (0: as wide) around (x, y); `twice` mirrors it at the axis."""
    height = height or width

    def distance(across: Tensor, down: Tensor) -> Tensor:
        across = across.abs() if twice else across
        squares = ((across - x) / width).square() + ((down - y) / height).square()
        return (squares.sqrt() - 1) * min(width, height)

    return distance


def rectangle(x: float, y: float, width: float, height: float, *, twice: bool = False) -> Form:
    """A rectangle of half sizes `width` and `height` around (x, y); `twice` mirrors it at the axis."""

    def distance(across: Tensor, down: Tensor) -> Tensor:
        across = across.abs() if twice else across
        return torch.maximum((across - x).abs() - width, (down - y).abs() - height)

    return distance


def polygon(*corners: tuple[float, float], twice: bool = False) -> Form:
    """A convex polygon whose corners turn clockwise as seen; `twice` mirrors it at the axis."""

    def distance(across: Tensor, down: Tensor) -> Tensor:
        across = across.abs() if twice else across
        sides = []
        for (x, y), (to_x, to_y) in zip(corners, (*corners[1:], corners[0]), strict=True):
            dx, dy = to_x - x, to_y - y
            sides.append(((across - x) * dy - (down - y) * dx) / math.hypot(dx, dy))
        return torch.stack(sides).amax(0)

    return distance


def smile(x: float, y: float, radius: float, width: float = 0.05, *, frown: bool = False) -> Form:
    """The lower half of a ring around (x, y), or the upper half for a frown."""

    def distance(across: Tensor, down: Tensor) -> Tensor:
        ring = ((((across - x).square() + (down - y).square()).sqrt()) - radius).abs() - width
        half = down - y if frown else y - down
        return torch.maximum(ring, half + 0.3 * radius)

    return distance


FUR, BROWN, TAN, STEEL, GINGER, LEAF = (
    *((0.95, 0.94, 0.97), (0.52, 0.31, 0.16), (0.88, 0.70, 0.48)),
    *((0.52, 0.66, 0.78), (0.95, 0.60, 0.22), (0.42, 0.74, 0.34)),
)
ROSE, SKIN, GOLD, ROBE = (1.0, 0.58, 0.66), (0.98, 0.80, 0.66), (1.0, 0.80, 0.14), (0.34, 0.20, 0.62)

PARTS: dict[str, tuple[Part, ...]] = {
    "tivvy": (  # a white rabbit
        Part(ellipse(0.33, -0.52, 0.19, 0.46, twice=True), FUR, True),
        Part(ellipse(0.0, 0.32, 0.72, 0.62), FUR, True),
        Part(ellipse(0.33, -0.50, 0.09, 0.33, twice=True), ROSE),
        Part(ellipse(0.47, 0.46, 0.13, 0.10, twice=True), ROSE),
        Part(ellipse(0.28, 0.18, 0.10, 0.14, twice=True), BLACK),
        Part(ellipse(0.0, 0.38, 0.11, 0.08), ROSE),
        Part(smile(0.0, 0.42, 0.20), BLACK),
    ),
    "grumbo": (  # a bear in a bad mood
        Part(ellipse(0.58, -0.52, 0.29, twice=True), BROWN, True),
        Part(ellipse(0.0, 0.12, 0.84, 0.78), BROWN, True),
        Part(ellipse(0.58, -0.52, 0.15, twice=True), TAN),
        Part(ellipse(0.0, 0.42, 0.42, 0.34), TAN),
        Part(ellipse(0.0, 0.25, 0.16, 0.11), BLACK),
        Part(smile(0.0, 0.68, 0.20, frown=True), BLACK),
        Part(ellipse(0.34, -0.06, 0.15, twice=True), WHITE),
        Part(ellipse(0.31, -0.04, 0.08, twice=True), BLACK),
        Part(polygon((0.12, -0.20), (0.54, -0.36), (0.57, -0.26), (0.14, -0.08), twice=True), BLACK),
    ),
    "plonk": (  # a robot
        Part(rectangle(0.0, -0.62, 0.06, 0.24), BLACK),
        Part(ellipse(0.0, -0.82, 0.17), (0.90, 0.16, 0.16), True),
        Part(rectangle(0.84, 0.20, 0.12, 0.22, twice=True), (0.36, 0.40, 0.48), True),
        Part(rectangle(0.0, 0.20, 0.76, 0.68), STEEL, True),
        Part(rectangle(0.34, 0.0, 0.23, 0.20, twice=True), BLACK),
        Part(rectangle(0.34, 0.0, 0.15, 0.12, twice=True), (1.0, 0.93, 0.30)),
        Part(rectangle(0.0, 0.55, 0.50, 0.15), BLACK),
        Part(rectangle(0.11, 0.55, 0.08, 0.10, twice=True), WHITE),
        Part(rectangle(0.34, 0.55, 0.09, 0.10, twice=True), WHITE),
    ),
    "zerby": (  # a wizard
        Part(ellipse(0.0, 0.22, 0.56, 0.50), SKIN, True),
        Part(polygon((0.62, 0.30), (0.30, 0.86), (0.0, 1.0), (-0.30, 0.86), (-0.62, 0.30)), FUR, True),
        Part(polygon((0.0, -1.06), (0.56, -0.10), (-0.56, -0.10)), ROBE, True),
        Part(ellipse(0.0, -0.10, 0.86, 0.15), ROBE, True),
        Part(ellipse(0.0, -0.44, 0.15), GOLD),
        Part(ellipse(0.24, 0.16, 0.09, 0.11, twice=True), BLACK),
        Part(ellipse(0.0, 0.34, 0.12, 0.10), ROSE),
        Part(ellipse(0.0, 0.58, 0.16, 0.08), (0.60, 0.16, 0.20)),
    ),
    "moxlo": (  # a ginger cat
        Part(polygon((0.30, -0.42), (0.72, -0.96), (0.84, 0.0), twice=True), GINGER, True),
        Part(ellipse(0.0, 0.18, 0.88, 0.70), GINGER, True),
        Part(polygon((0.44, -0.42), (0.68, -0.74), (0.74, -0.24), twice=True), ROSE),
        Part(rectangle(0.0, -0.36, 0.06, 0.15), BROWN),
        Part(rectangle(0.20, -0.34, 0.05, 0.12, twice=True), BROWN),
        Part(ellipse(0.36, 0.08, 0.22, 0.20, twice=True), (0.72, 0.92, 0.30)),
        Part(ellipse(0.36, 0.08, 0.07, 0.18, twice=True), BLACK),
        Part(polygon((-0.13, 0.34), (0.13, 0.34), (0.0, 0.48)), ROSE),
        Part(smile(0.14, 0.50, 0.14, 0.04), BLACK),
        Part(smile(-0.14, 0.50, 0.14, 0.04), BLACK),
    ),
    "quindle": (  # a king with one eye
        Part(polygon((0.22, -0.42), (0.62, -0.96), (0.62, -0.30), (0.22, -0.30), twice=True), GOLD, True),
        Part(polygon((-0.26, -0.36), (0.0, -1.02), (0.26, -0.36)), GOLD, True),
        Part(ellipse(0.0, 0.28, 0.78, 0.68), LEAF, True),
        Part(rectangle(0.0, -0.36, 0.62, 0.13), GOLD, True),
        Part(ellipse(0.0, -0.36, 0.09), (0.87, 0.11, 0.13)),
        Part(ellipse(0.0, 0.18, 0.30), WHITE),
        Part(ellipse(0.0, 0.18, 0.17), (0.20, 0.42, 0.86)),
        Part(ellipse(0.0, 0.18, 0.08), BLACK),
        Part(polygon((-0.36, 0.60), (0.36, 0.60), (0.24, 0.78), (-0.24, 0.78)), (0.45, 0.10, 0.16)),
        Part(rectangle(0.12, 0.645, 0.07, 0.045, twice=True), WHITE),
    ),
}
