"""The concepts of the world of scenes, `params/concepts/NAME.yaml`: one of each kind to tune on, one to report.

Their prompts are of the templates to fit on.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from stages.params.types import KIND_OF
from stages.worlds.scenes.grammar import TEMPLATES, Said
from stages.worlds.scenes.labels import COLOURS, OBJECTS, STYLES, TEXTURES
from stages.worlds.scenes.table import DROP, LEARNED, SHOWN
from stages.worlds.scenes.words import CHARACTER, SYNONYMS

FIT = TEMPLATES["fit"]
CONCEPTS = {  # name -> kind; the first of each kind is tuned on, the second is reported
    **{"purple": "colour", "green": "colour"},
    **{"heart": "object", "star": "object"},
    **{"neon": "style", "mosaic": "style"},
    **{"tivvy": "figure", "grumbo": "figure"},
    "striped": "texture",
}


def concept(name: str) -> dict[str, Any]:
    """The content of the file of a concept in CONCEPTS: eight prompts, their neutral twins, and twelve to retain."""
    kind = CONCEPTS[name]
    said = [*(_named(kind, name),) * len(FIT), *_among(kind, name)]
    prompts = [(FIT[i % len(FIT)], one) for i, one in enumerate(said)]
    content: dict[str, Any] = {
        "name": name,
        "kind": KIND_OF[kind],
        "dataset": "data/scenes.csv",
        "target": {kind: name},
        "words": [name],
        "prompts": [template.format(one) for template, one in prompts],
        "neutral": [template.format(DROP[kind](one)) for template, one in prompts],
        "retain": [FIT[i % len(FIT)].format(one) for i, one in enumerate(_others(kind, name))],
    }
    return content | ({"synonyms": [SYNONYMS[name]]} if name in SYNONYMS else {})


def new_word() -> dict[str, Any]:
    """The content of the file of the figure that no backbone was shown, as what a new word is to mean."""
    return {
        "name": LEARNED,
        "kind": KIND_OF["figure"],
        "aim": "learn",
        "dataset": "data/scenes_new_word.csv",
        "target": {"figure": LEARNED},
        "words": [LEARNED],
        "prompts": [LEARNED],
        "neutral": [str(Said(noun=CHARACTER))],
        "retain": concept("grumbo")["retain"],
    }


def _named(kind: str, name: str) -> Said:
    """The concept alone."""
    whole = {
        "colour": Said(colour=name),
        "texture": Said(texture=name),
        "style": Said(style=name),
    }
    return whole.get(kind, Said(noun=name))


def _among(kind: str, name: str) -> list[Said]:
    """Four descriptions of the concept together with other labels."""
    said = _named(kind, name)
    if kind == "figure":
        return [replace(said, background=ground) for ground in ("light", "sandy")] + [
            replace(said, place=place) for place in ("left", "below")
        ]
    colours, things = _but(COLOURS, name), _but(OBJECTS, name)
    pairs = [(colours[2 * i % len(colours)], things[(2 * i + 1) % len(things)]) for i in range(4)]
    if kind == "colour":
        return [replace(said, noun=thing) for _, thing in pairs]
    if kind == "object":
        return [replace(said, colour=colour) for colour, _ in pairs]
    return [replace(said, colour=colour, noun=thing) for colour, thing in pairs]


def _others(kind: str, name: str) -> list[Said]:
    """Twelve descriptions without the concept: six of objects, two textures or styles, and figures."""
    colours, things = _but(COLOURS, name), _but(OBJECTS, name)
    flat = [Said(colour=colours[i % len(colours)], noun=things[3 * i % len(things)]) for i in range(7)]
    styles, textures, figures = _but(STYLES[1:], name), _but(TEXTURES[1:], name), _but(SHOWN, name)
    styled = [replace(said, style=style) for said, style in zip(flat[1:], styles[:2], strict=False)]
    textured = replace(flat[4], texture=textures[-1])
    return [*flat, *styled, textured, *(Said(noun=figure) for figure in figures[:2])]


def _but(names: Iterable[str], name: str) -> Sequence[str]:
    return [other for other in names if other != name]
