"""Tables of prompts to learn the concepts of the world of scenes from, `data/fitting/` and `data/anchors/`.

A row holds a prompt and its neutral twin, or its anchor: the same prompt with another label of the concept's kind,
which cannot show the concept. Prompts are of the templates to fit on, so that no dataset measures them, and none stands
in the concept's file.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import product
from typing import Any

from stages.worlds.scenes.concepts import CONCEPTS, FIT, concept, new_word
from stages.worlds.scenes.grammar import Said
from stages.worlds.scenes.labels import BACKGROUNDS, COLOURS, OBJECTS, PLACES, STYLES, TEXTURES
from stages.worlds.scenes.table import DROP, LEARNED, SHOWN
from stages.worlds.scenes.words import SHAPE

Row = dict[str, str]
Twins = tuple[Said, Said]
NAMES = {"colour": COLOURS, "object": OBJECTS, "style": STYLES, "texture": TEXTURES, "figure": SHOWN}
SAY: dict[str, Callable[[Said, str], Said]] = {  # a description with a label of a kind
    "colour": lambda said, name: replace(said, colour=name),
    "object": lambda said, name: replace(said, noun=name),
    "style": lambda said, name: replace(said, style=name),
    "texture": lambda said, name: replace(said, texture=name),
    "figure": lambda said, name: replace(said, noun=name),
}
AROUND = {  # places and backgrounds that are said of an object: no background fits every style
    **dict.fromkeys(("colour", "object", "texture"), (("", "light"), ("", "sandy"))),
    "style": (("", ""), ("right", "")),
}


def fitting_rows(name: str) -> list[Row]:
    """Returns the rows of `data/fitting/<name>.csv`; KeyError for a concept that is not of this world."""
    kind = "figure" if name == LEARNED else CONCEPTS[name]
    scenes = _with(kind, name, _scenes(kind))
    return _rows(name, ((said, DROP[kind](said)) for said in scenes))


def anchor_rows(name: str) -> list[Row]:
    """Returns the rows of `data/anchors/<name>.csv`; KeyError for a concept that is not erased here."""
    kind = CONCEPTS[name]
    others = [other for other in NAMES[kind] if other != name]
    scenes = list(_anchor_scenes(kind))
    sides = (zip(_with(kind, name, scenes), _with(kind, other, scenes), strict=True) for other in others)
    return _rows(name, (twins for side in sides for twins in side))


def _scenes(kind: str) -> Iterator[Said]:
    """What is said beside a label of a kind: an object or none, of a colour or none, and where it is."""
    if kind == "figure":
        yield from (
            Said(place=place, background=ground) for place in ("", *PLACES[1:]) for ground in ("", *BACKGROUNDS)
        )
        return
    for said, (place, ground) in product(_objects(kind), AROUND[kind]):
        yield replace(said, place=place, background=ground)


def _anchor_scenes(kind: str) -> Iterator[Said]:
    """The same for anchors: fewer for colours and objects, which have seven others, more for textures with two."""
    if kind in ("colour", "object"):
        for i, said in enumerate(_objects(kind)[1:]):
            yield replace(said, background=BACKGROUNDS[i % len(BACKGROUNDS)])
        return
    yield from _scenes(kind)
    if kind == "texture":
        yield from (replace(said, background="dark") for said in _objects(kind))


def _objects(kind: str) -> list[Said]:
    """A shape of no colour, then the eight objects, the eight colours, or eight objects of a colour each."""
    colours = COLOURS if kind != "colour" else [""] * len(OBJECTS)
    nouns = OBJECTS if kind != "object" else [SHAPE] * len(COLOURS)
    return [Said(), *(Said(colour=colour, noun=noun) for colour, noun in zip(colours, nouns, strict=True))]


def _with(kind: str, name: str, scenes: Iterable[Said]) -> list[Said]:
    """The same with a label."""
    return [SAY[kind](said, name) for said in scenes]


def _rows(name: str, pairs: Iterable[Twins]) -> list[Row]:
    """Each pair in every template, without the prompts of the concept's file."""
    content: Mapping[str, Any] = new_word() if name == LEARNED else concept(name)
    return [
        {"prompt": template.format(first), "normal prompt": template.format(second)}
        for (first, second), template in product(pairs, FIT)
        if template.format(first) not in content["prompts"]
    ]
