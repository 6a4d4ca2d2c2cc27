"""Classes for generators without a text encoder, in place of the captions of the world of scenes."""

from itertools import product

from stages.worlds.classes import UNCONDITIONAL
from stages.worlds.scenes.labels import COLOURS, FIGURES, OBJECTS, STYLES, TEXTURES, WITHHELD
from stages.worlds.scenes.words import CHARACTER, FORMS, KINDS, LIKE, SHAPE, SYNONYMS, THINGS

LOOKS = (("", ""), *((texture, "") for texture in TEXTURES[1:]), *(("", style) for style in STYLES[1:]))


def classes() -> dict[int, str]:
    """Returns class id -> names, comma-separated: each colour and object in each texture and style, each of them alone,
    each figure that is not withheld, and none.

    Places, backgrounds and second objects are of no class.
    """
    objects = [
        _names(colour, thing, texture, style)
        for (texture, style), colour, thing in product(LOOKS, ("", *COLOURS), ("", *OBJECTS))
        if texture or style or colour or thing
    ]
    figures = [(name, KINDS[name]) for name in FIGURES if name not in WITHHELD]
    every = [*objects, *figures, (CHARACTER,)]
    return {index: ", ".join(names) for index, names in enumerate(every)} | {UNCONDITIONAL: SHAPE}


def _names(colour: str, thing: str, texture: str, style: str) -> list[str]:
    """All that captions call an object of a colour, without the article."""
    nouns = [thing, SYNONYMS[thing], FORMS[thing]] if thing else [SHAPE]
    phrases = [f"{word} {noun}" for word in (colour, SYNONYMS[colour]) for noun in nouns] if colour else nouns
    if colour:
        phrases = [*phrases, *(f"{noun} coloured like {LIKE[colour]}" for noun in nouns)]
    if (colour, thing) in THINGS:
        phrases.append(THINGS[colour, thing])
    if texture:
        phrases = [f"{word} {phrase}" for word in (texture, SYNONYMS[texture]) for phrase in phrases]
    if style:
        phrases = [f"{phrase} in {word} style" for word in (style, SYNONYMS[style]) for phrase in phrases]
    return phrases
