"""The world of shapes: captioned pictures and clips of one coloured shape, whose truth is known."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from stages import seeds
from stages.seeds import Purpose
from stages.worlds.by_name import Exclude
from stages.worlds.captions import DIRECTIONS, write_captions
from stages.worlds.signed_distances import DISTANCES, Scene, rasterise

PALETTE = {
    "red": (0.88, 0.14, 0.14),
    "green": (0.13, 0.66, 0.24),
    "blue": (0.17, 0.29, 0.90),
    "yellow": (0.95, 0.84, 0.15),
    "purple": (0.55, 0.16, 0.72),
    "orange": (0.96, 0.52, 0.08),
    "cyan": (0.15, 0.80, 0.85),
}


@dataclass(frozen=True)
class Batch:
    """N pictures or clips, their captions and their truth."""

    images: Tensor  # (N, 3, H, W), or (N, F, 3, H, W) for clips, in [0, 1]
    captions: list[str]  # N; some leave out the colour, the shape or both
    colour: Tensor  # (N,) index into `Shapes.colours`
    shape: Tensor  # (N,) index into `Shapes.shapes`
    direction: Tensor | None = None  # (N,) index into DIRECTIONS; None for pictures


@dataclass(frozen=True)
class Shapes:
    """Draws one coloured shape on a dark or a light background.

    >>> batch = Shapes().sample(8, seed=0)
    >>> batch.images.shape, batch.captions[0]
    (torch.Size([8, 3, 32, 32]), 'a photo of a red circle')

    Lengths are pixels at size 32 and scale with `size`. ValueError for unknown or repeated names, a size below 8, or
    radii that are not 0 < low <= high.
    """

    size: int = 32  # pixels, height and width
    colours: tuple[str, ...] = ("red", "green", "blue", "yellow")  # of PALETTE
    shapes: tuple[str, ...] = ("circle", "square", "triangle", "cross")  # of DISTANCES
    radius: tuple[float, float] = (9.0, 11.0)  # pixels, lowest and highest
    offset: float = 1.5  # pixels that the centre may be off the middle, each way
    rotation: float = 0.12  # radians, each way
    travel: float = 9.0  # pixels that a clip's shape moves from the first to the last frame

    def __post_init__(self) -> None:
        object.__setattr__(self, "colours", _known("colour", self.colours, PALETTE))
        object.__setattr__(self, "shapes", _known("shape", self.shapes, DISTANCES))
        low, high = self.radius
        object.__setattr__(self, "radius", (float(low), float(high)))
        if self.size < 8 or not 0 < low <= high:
            raise ValueError(f"size must be 8 or more and radius rise from above 0, got {self.size}, {self.radius}")

    def sample(self, n: int, seed: int, exclude: Exclude = None) -> Batch:
        """Returns `n` captioned pictures; what to `exclude` ("red", "circle", "red circle") is neither drawn nor named.

        ValueError if `exclude`, or one of several, is not a colour, a shape or `colour shape` of this world.
        """
        return self.draw(n, seeds.generator(Purpose.WORLD, seed), exclude)

    def draw(self, n: int, generator: torch.Generator, exclude: Exclude = None) -> Batch:
        """Returns `n` captioned pictures as `sample` does, drawn from `generator`."""
        colour, shape = self._pick(n, generator, exclude)
        scene, light = self._scene(colour, shape, generator)
        captions = write_captions(*self._names(colour, shape), light, None, generator)
        return Batch(rasterise(scene, self.shapes, self.size), captions, colour, shape)

    def render(self, colour: Tensor, shape: Tensor, generator: torch.Generator) -> Tensor:
        """Returns pictures (N, 3, H, W) in [0, 1] of the colours and shapes with these indices (N,)."""
        return rasterise(self._scene(colour, shape, generator)[0], self.shapes, self.size)

    def clips(self, n: int, seed: int, frames: int = 9, exclude: Exclude = None) -> Batch:
        """Returns `n` captioned clips of a shape that moves left, right, up or down on a dark background.

        ValueError for an `exclude` that `sample` refuses.
        """
        generator = seeds.generator(Purpose.WORLD, seed)
        colour, shape = self._pick(n, generator, exclude)
        direction = torch.randint(len(DIRECTIONS), (n,), generator=generator)
        images, light = self._film(colour, shape, direction, generator, frames)
        names = [DIRECTIONS[i] for i in direction.tolist()]
        captions = write_captions(*self._names(colour, shape), light, names, generator)
        return Batch(images, captions, colour, shape, direction)

    def film(
        self, colour: Tensor, shape: Tensor, direction: Tensor, generator: torch.Generator, frames: int = 9
    ) -> Tensor:
        """Returns clips (N, F, 3, H, W) in [0, 1] of the colours, shapes and directions with these indices (N,)."""
        return self._film(colour, shape, direction, generator, frames)[0]

    def renders(
        self, rows: Sequence[Mapping[str, str]], generator: torch.Generator, frames: int | None = None
    ) -> Tensor:
        """Returns a picture, or a clip of `frames`, of each row's labels; one that it leaves open is drawn evenly."""
        options = {"colour": self.colours, "shape": self.shapes, "direction": DIRECTIONS}
        colour, shape, direction = (
            _indices([row.get(label, "") for row in rows], names, generator) for label, names in options.items()
        )
        if frames is None:
            return self.render(colour, shape, generator)
        return self.film(colour, shape, direction, generator, frames)

    def _pick(self, n: int, generator: torch.Generator, exclude: Exclude) -> tuple[Tensor, Tensor]:
        pairs = [(c, s) for c in range(len(self.colours)) for s in range(len(self.shapes))]
        for concept in (exclude,) if isinstance(exclude, str) else exclude or ():
            pairs = [pair for pair in pairs if not self._shows(pair, concept)]
        if not pairs:
            raise ValueError(f"nothing is left to draw without {exclude!r}")
        chosen = torch.tensor(pairs)[torch.randint(len(pairs), (n,), generator=generator)]
        return chosen[:, 0], chosen[:, 1]

    def _shows(self, pair: tuple[int, int], concept: str) -> bool:
        names = {self.colours[pair[0]], self.shapes[pair[1]]}
        words = concept.split()
        kinds = [word in self.colours for word in words]
        if not words or set(words) - {*self.colours, *self.shapes} or kinds not in ([True], [False], [True, False]):
            have = ", ".join((*self.colours, *self.shapes))
            raise ValueError(f"exclude must be a colour, a shape or `colour shape`, got {concept!r}; have: {have}")
        return set(words) <= names

    def _names(self, colour: Tensor, shape: Tensor) -> tuple[list[str], list[str]]:
        return [self.colours[i] for i in colour.tolist()], [self.shapes[i] for i in shape.tolist()]

    def _scene(
        self, colour: Tensor, shape: Tensor, generator: torch.Generator, lit: float = 0.5
    ) -> tuple[Scene, Tensor]:
        """Returns a scene, and which backgrounds are light, (N,) bool: a share `lit` of them."""
        n, unit = len(colour), self.size / 32

        def uniform(*shape: int) -> Tensor:
            return 2 * torch.rand(*shape, generator=generator) - 1

        light = torch.rand(n, generator=generator) < lit
        ink = torch.tensor([PALETTE[name] for name in self.colours])[colour] + 0.04 * uniform(n, 3)
        paper = torch.where(light, 0.55, 0.12)[:, None] + 0.04 * uniform(n, 1) + 0.015 * uniform(n, 3)
        low, high = self.radius
        radius = (low + high + (high - low) * uniform(n)) / 2 * unit
        centre, angle = self.offset * unit * uniform(n, 2), self.rotation * uniform(n)
        return Scene(shape, ink.clamp(0, 1), paper.clamp(0, 1), centre, radius, angle), light

    def _film(
        self, colour: Tensor, shape: Tensor, direction: Tensor, generator: torch.Generator, frames: int
    ) -> tuple[Tensor, Tensor]:
        """Returns clips of a smaller shape on a straight line at constant speed, and which backgrounds are light: none.

        All are dark because small models do not learn motion from clips of both kinds, which have no common mean.
        """
        scene, light = self._scene(colour, shape, generator, lit=0.0)
        heading = torch.tensor([[-1.0, 0.0], [1.0, 0.0], [0.0, -1.0], [0.0, 1.0]])[direction]  # rows count downwards
        path = torch.linspace(-0.5, 0.5, frames)[:, None] * self.travel * self.size / 32 * heading[:, None]  # (N, F, 2)
        still = {name: getattr(scene, name).repeat_interleave(frames, 0) for name in ("shape", "ink", "paper", "angle")}
        radius = (0.8 * scene.radius).repeat_interleave(frames, 0)
        moving = replace(scene, **still, radius=radius, centre=(0.5 * scene.centre[:, None] + path).flatten(0, 1))
        return rasterise(moving, self.shapes, self.size).unflatten(0, (-1, frames)), light


def _indices(values: Sequence[str], names: tuple[str, ...], generator: torch.Generator) -> Tensor:
    """The indices (N,) of values among names, drawn evenly for one that is none of them."""
    drawn = torch.randint(len(names), (len(values),), generator=generator)
    known = torch.tensor([names.index(value) if value in names else -1 for value in values])
    return torch.where(known < 0, drawn, known)


def _known(kind: str, names: tuple[str, ...] | list[str], have: Mapping[str, object]) -> tuple[str, ...]:
    unknown = [name for name in names if name not in have]
    if unknown or not names or len(set(names)) < len(names):
        raise ValueError(f"{kind}s must be some of {', '.join(have)}, each once, got {tuple(names)!r}")
    return tuple(names)
