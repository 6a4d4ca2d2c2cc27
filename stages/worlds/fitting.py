"""Tables of prompts to learn the concepts of the world of shapes from, `data/fitting/` and `data/anchors/`.

Two of the captions' templates are said together, so that no prompt is one that a dataset measures. A row holds a prompt
and its neutral twin, or its anchor: the same prompt with another colour or shape, which cannot show the concept.
"""

from collections.abc import Iterable, Iterator
from itertools import product

from stages.worlds.captions import DIRECTIONS, phrase
from stages.worlds.shapes import Shapes
from stages.worlds.words import SYNONYMS

Row = dict[str, str]
Pair = tuple[str, str]
PICTURES = ("a photo of {}", "a picture of {}", "an image of {}", "a drawing of {}")
BARE = tuple(picture.partition(" ")[2] for picture in PICTURES)  # without their article
LIGHTS = ("dark", "light")
TEN = {  # pairs that are erased together, and the one of the same colour that stays
    **{("red", shape): "cross" for shape in ("circle", "square", "triangle")},
    **{("green", shape): "triangle" for shape in ("circle", "square", "cross")},
    **{("blue", shape): "square" for shape in ("circle", "triangle", "cross")},
    ("yellow", "square"): "circle",
}
STAYING = (
    *(("red", "cross"), ("green", "triangle"), ("blue", "square")),
    *(("yellow", shape) for shape in ("circle", "triangle", "cross")),
)
NEW = "yellow cross"  # the combination that some backbones are never shown


def fitting_rows(world: Shapes, concept: str) -> list[Row]:
    """Returns the rows of `data/fitting/<concept>.csv`; KeyError for a concept that is not of this world."""
    kinds = {
        "red": lambda: _still(_colour(world, "red", [""])),
        # classes have one name each
        "red_class": lambda: _still(_colour(world, "red", [""], renamed=False), (*PICTURES, *BARE)),
        "red_to_blue": lambda: _still(_colour(world, "red", ["blue"])),
        "red_clip": lambda: _moving(_colour(world, "red", [""], renamed=False)),
        "circle": lambda: _still(_shape(world, "circle", [""])),
        "circle_to_square": lambda: _still(_shape(world, "circle", ["square"])),
        "circle_clip": lambda: _moving(_shape(world, "circle", [""], renamed=False)),
        "ten_pairs": lambda: _still((phrase(*pair), phrase(pair[0], shape)) for pair, shape in TEN.items()),
        "yellow_cross": _new_word,
    }
    return _rows(kinds[concept]())


def anchor_rows(world: Shapes, concept: str) -> list[Row]:
    """Returns the rows of `data/anchors/<concept>.csv`; KeyError as of `fitting_rows`."""
    colours = [name for name in world.colours if name != "red"]
    shapes = [name for name in world.shapes if name != "circle"]
    kinds = {
        "red": lambda: _still(_colour(world, "red", colours)),
        "red_class": lambda: _still(_colour(world, "red", colours, renamed=False), (*PICTURES, *BARE)),
        "red_clip": lambda: _moving(_colour(world, "red", colours, renamed=False)),
        "ten_pairs": lambda: _still(_staying()),
        "circle": lambda: _still(_shape(world, "circle", shapes)),
        "circle_clip": lambda: _moving(_shape(world, "circle", shapes, renamed=False)),
    }
    return _rows(kinds[concept]())


def _rows(pairs: Iterable[Pair]) -> list[Row]:
    return [{"prompt": prompt, "normal prompt": twin} for prompt, twin in pairs]


def _colour(world: Shapes, colour: str, others: Iterable[str], *, renamed: bool = True) -> list[Pair]:
    """Phrases with a colour, of every shape and its synonym, beside the same with each of the others."""
    shapes = ["", *world.shapes, *(SYNONYMS[name] for name in world.shapes if renamed)]
    return [(phrase(colour, shape), phrase(other, shape)) for shape, other in product(shapes, others)]


def _shape(world: Shapes, shape: str, others: Iterable[str], *, renamed: bool = True) -> list[Pair]:
    """Phrases with a shape, of every colour and its synonym, beside the same with each of the others."""
    colours = ["", *world.colours, *(SYNONYMS[name] for name in world.colours if renamed)]
    return [(phrase(colour, shape), phrase(colour, other)) for colour, other in product(colours, others)]


def _staying() -> Iterator[Pair]:
    """Each of the ten pairs beside three of those that stay, another three for the next."""
    for i, pair in enumerate(TEN):
        yield from ((phrase(*pair), phrase(*STAYING[(i + j) % len(STAYING)])) for j in range(3))


def _still(pairs: Iterable[Pair], pictures: Iterable[str] = PICTURES) -> Iterator[Pair]:
    for (first, second), picture, light in product(pairs, pictures, LIGHTS):
        tail = f" on a {light} background"
        yield picture.format(first) + tail, picture.format(second) + tail


def _moving(pairs: Iterable[Pair]) -> Iterator[Pair]:
    for (first, second), picture, way in product(pairs, PICTURES, DIRECTIONS):
        yield f"{picture.format(first)} moving {way}", f"{picture.format(second)} moving {way}"


def _new_word() -> Iterator[Pair]:
    tails = [*(f" on a {light} background" for light in LIGHTS), ""]
    for head, tail, article in product((*PICTURES, *BARE), tails, ("a ", "the ", "")):
        if tail or article != "a ":  # such are measured
            yield head.format(article + NEW) + tail, head.format(article + "shape") + tail
