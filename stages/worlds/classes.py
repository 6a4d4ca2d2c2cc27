"""Classes for generators without a text encoder, in place of the captions of the world of shapes."""

from itertools import product

from stages.worlds.shapes import Shapes
from stages.worlds.words import SYNONYMS

UNCONDITIONAL = 1000  # as in diffusers' DiTPipeline


def classes(world: Shapes | None = None) -> dict[int, str]:
    """Returns class id -> names, comma-separated: each colour with each shape, each colour, each shape, and none."""
    world = world or Shapes()
    pairs = [*product(world.colours, world.shapes), *product(world.colours, ["shape"]), *product([""], world.shapes)]
    named = {index: ", ".join(_names(colour, shape)) for index, (colour, shape) in enumerate(pairs)}
    return named | {UNCONDITIONAL: "shape"}


def _names(colour: str, shape: str) -> list[str]:
    said = [dict.fromkeys((word, SYNONYMS.get(word, word))) for word in (colour, shape)]
    alone = [*said[0]] if shape == "shape" else []
    return [" ".join(filter(None, words)) for words in product(*said)] + alone
