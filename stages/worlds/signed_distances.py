"""Signed distances to the outlines of shapes, and the anti-aliased pictures drawn with them.

A distance takes coordinates x, y and sizes that broadcast, in pixels, from the middle of the shape, y downwards. It
returns pixels, negative inside, exact near the outline.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Distance = Callable[[Tensor, Tensor, Tensor], Tensor]


def circle(x: Tensor, y: Tensor, radius: Tensor) -> Tensor:
    """Distance to a circle of 0.92 `radius`."""
    return (x.square() + y.square()).sqrt() - 0.92 * radius


def box(x: Tensor, y: Tensor, width: Tensor, height: Tensor) -> Tensor:
    """Distance to a box of half sizes `width` and `height`; beyond its corners, to the nearer side's line."""
    return torch.maximum(x.abs() - width, y.abs() - height)


def square(x: Tensor, y: Tensor, radius: Tensor) -> Tensor:
    """Distance to a square of half side 0.96 `radius`."""
    return box(x, y, 0.96 * radius, 0.96 * radius)


def triangle(x: Tensor, y: Tensor, radius: Tensor) -> Tensor:
    """Distance to an upright equilateral triangle of inradius 0.62 `radius`, its tip at the top."""
    side = 0.5 * math.sqrt(3) * x.abs() - 0.5 * y
    return torch.maximum(side, y) - 0.62 * radius


def cross(x: Tensor, y: Tensor, radius: Tensor) -> Tensor:
    """Distance to a plus sign whose arms reach 1.1 `radius` and are 0.72 `radius` wide."""
    arm, half = 1.1 * radius, 0.36 * radius
    return torch.minimum(box(x, y, arm, half), box(x, y, half, arm))


def ring(x: Tensor, y: Tensor, radius: Tensor) -> Tensor:
    """Distance to a ring around a circle of 0.8 `radius`, 0.48 `radius` wide."""
    return circle(x, y, 0.87 * radius).abs() - 0.24 * radius


def diamond(x: Tensor, y: Tensor, radius: Tensor) -> Tensor:
    """Distance to a rhombus, higher than wide."""
    return (0.82 * x.abs() + 0.57 * y.abs()) - 0.7 * radius


DISTANCES: dict[str, Distance] = {
    "circle": circle,
    "square": square,
    "triangle": triangle,
    "cross": cross,
    "ring": ring,
    "diamond": diamond,
}


@dataclass(frozen=True)
class Scene:
    """N pictures of one shape each, as numbers."""

    shape: Tensor  # (N,) index into the names of the shapes
    ink: Tensor  # (N, 3) colour of the shape, in [0, 1]
    paper: Tensor  # (N, 3) colour of the background, in [0, 1]
    centre: Tensor  # (N, 2) x and y from the middle of the picture, pixels
    radius: Tensor  # (N,) pixels
    angle: Tensor  # (N,) radians, counter-clockwise


def rasterise(scene: Scene, shapes: tuple[str, ...], size: int) -> Tensor:
    """Returns pictures (N, 3, size, size) in [0, 1] of a scene of `shapes`; an edge fades over one pixel."""
    axis = torch.arange(size, dtype=torch.float32) - (size - 1) / 2
    x, y = (axis - scene.centre[:, :1]).unsqueeze(1), (axis - scene.centre[:, 1:]).unsqueeze(2)  # (N, 1, W), (N, H, 1)
    cos, sin = (f(scene.angle)[:, None, None] for f in (torch.cos, torch.sin))
    across, down = cos * x - sin * y, sin * x + cos * y  # (N, H, W), turned into the shape's own axes
    inside = torch.empty_like(across)
    for index, name in enumerate(shapes):
        rows = (scene.shape == index).nonzero().flatten()
        if len(rows):
            distance = DISTANCES[name](across[rows], down[rows], scene.radius[rows, None, None])
            inside[rows] = (0.5 - distance).clamp_(0, 1)
    paper, ink = scene.paper[:, :, None, None], scene.ink[:, :, None, None]
    return torch.lerp(paper, ink, inside.unsqueeze(1))
