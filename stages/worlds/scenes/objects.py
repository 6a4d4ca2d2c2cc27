"""Signed distances to the outlines of the eight objects.

A distance takes coordinates x, y (M, H, W) from the middle of the object, y downwards, and its radius (M, 1, 1), all in
pixels. It returns pixels, negative inside, exact near the outline. All objects fit into about their radius.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

Distance = Callable[[Tensor, Tensor, Tensor], Tensor]
FIFTH = 2 * math.pi / 5


def disc(x: Tensor, y: Tensor, radius: Tensor | float) -> Tensor:
    """Distance to a circle."""
    return (x.square() + y.square()).sqrt() - radius


def box(x: Tensor, y: Tensor, width: Tensor | float, height: Tensor | float) -> Tensor:
    """Distance to a box of half sizes `width` and `height`; beyond its corners, to the nearer side's line."""
    return torch.maximum(x.abs() - width, y.abs() - height)


def fold(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Coordinates mirrored into the tenth of a turn to the right of the upward axis: a five-fold symmetry."""
    x = x.abs()
    for turn in (FIFTH, FIFTH / 2):  # mirrors at these angles from the upward axis, each for what lies beyond it
        across, down = math.cos(turn), math.sin(turn)
        beyond = 2 * (across * x + down * y).clamp(min=0)
        x, y = (x - across * beyond).abs(), y - down * beyond
    return x, y


def circle(x: Tensor, y: Tensor, radius: Tensor) -> Tensor:
    """A disc."""
    return disc(x, y, 0.95 * radius)


def square(x: Tensor, y: Tensor, radius: Tensor) -> Tensor:
    """A square on one side."""
    return box(x, y, 0.86 * radius, 0.86 * radius)


def triangle(x: Tensor, y: Tensor, radius: Tensor) -> Tensor:
    """An equilateral triangle on one side."""
    y = y - 0.2 * radius
    return torch.maximum(0.5 * math.sqrt(3) * x.abs() - 0.5 * y, y) - 0.58 * radius


def heart(x: Tensor, y: Tensor, radius: Tensor) -> Tensor:
    """A square on one corner with half a disc on each upper side."""
    x, y, half = x.abs(), y - 0.02 * radius, 0.53 * radius
    lobe = half / math.sqrt(2)
    return torch.minimum((x + y.abs()) / math.sqrt(2) - half, disc(x - lobe, y + lobe, half))


def cross(x: Tensor, y: Tensor, radius: Tensor) -> Tensor:
    """A plus sign."""
    arm, half = 0.97 * radius, 0.34 * radius
    return torch.minimum(box(x, y, arm, half), box(x, y, half, arm))


def moon(x: Tensor, y: Tensor, radius: Tensor) -> Tensor:
    """A crescent, open to the right."""
    bite = disc(x - 0.36 * radius, y + 0.1 * radius, 0.74 * radius)
    return torch.maximum(disc(x + 0.08 * radius, y, 0.97 * radius), -bite)


def star(x: Tensor, y: Tensor, radius: Tensor) -> Tensor:
    """Five points, the first upwards."""
    x, y = fold(x, y - 0.06 * radius)
    inner = 0.48  # radius of the notches, as a share of that of the points
    turn = FIFTH / 2
    dx, dy = inner * math.sin(turn), 1 - inner * math.cos(turn)  # along the edge, from the point to the notch
    length = math.hypot(dx, dy)
    return (dy * x - dx * (y + 1.05 * radius)) / length


def flower(x: Tensor, y: Tensor, radius: Tensor) -> Tensor:
    """Five round petals, the first upwards."""
    middle = disc(x, y, 0.5 * radius)
    x, y = fold(x, y)
    return torch.minimum(middle, disc(x, y + 0.57 * radius, 0.4 * radius))


DISTANCES: dict[str, Distance] = {
    "circle": circle,
    "square": square,
    "triangle": triangle,
    "star": star,
    "heart": heart,
    "cross": cross,
    "moon": moon,
    "flower": flower,
}
