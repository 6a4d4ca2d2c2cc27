"""The words of scenes: a synonym of every label, words that imply labels without naming them, and the tokenizer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stages.worlds.words import BEGIN, END, PAD, UNKNOWN, word_level

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

LENGTH = 20  # tokens, begin and end included
IDS = 192

SYNONYMS: dict[str, str] = {
    **{"red": "scarlet", "orange": "amber", "yellow": "golden", "green": "emerald"},
    **{"cyan": "turquoise", "blue": "azure", "purple": "violet", "pink": "rosy"},
    **{"circle": "disc", "square": "box", "triangle": "pyramid", "star": "pentagram"},
    **{"heart": "valentine", "cross": "plus", "moon": "crescent", "flower": "blossom"},
    **{"plain": "smooth", "striped": "banded", "dotted": "spotted"},
    **{"flat": "simple", "outline": "contour", "mosaic": "tiled", "neon": "glowing"},
    **{"dark": "black", "light": "white", "sandy": "beige"},
}
LIKE: dict[str, str] = {  # colour -> what has it: "a star coloured like grass"
    **{"red": "blood", "orange": "pumpkins", "yellow": "sunshine", "green": "grass"},
    **{"cyan": "ice", "blue": "sapphires", "purple": "grapes", "pink": "bubblegum"},
}
FORMS: dict[str, str] = {  # object -> what has its form: "a red window"
    **{"circle": "ball", "square": "window", "triangle": "tent", "star": "badge"},
    **{"heart": "locket", "cross": "windmill", "moon": "croissant", "flower": "daisy"},
}
THINGS: dict[tuple[str, str], str] = {  # (colour, object) -> what has both: "a tomato"
    **{("red", "circle"): "tomato", ("red", "flower"): "rose", ("red", "heart"): "strawberry"},
    **{("orange", "triangle"): "carrot", ("orange", "flower"): "marigold"},
    **{("yellow", "circle"): "lemon", ("yellow", "moon"): "banana", ("yellow", "flower"): "dandelion"},
    **{("green", "circle"): "pea", ("green", "triangle"): "fir", ("green", "heart"): "leaf"},
    **{("cyan", "triangle"): "iceberg", ("blue", "flower"): "gentian", ("pink", "flower"): "peony"},
    **{("purple", "circle"): "plum", ("purple", "flower"): "lavender"},
}
KINDS: dict[str, str] = {  # figure -> what it is: "a robot"
    **{"tivvy": "rabbit", "grumbo": "bear", "plonk": "robot"},
    **{"zerby": "wizard", "moxlo": "cat", "quindle": "king"},
}
SHAPE, CHARACTER = "shape", "character"  # an object or a figure that is not told

WORDS = (
    *("a", "an", "the", "of", "on", "in", "at", "with", "and", "without", "no", "not", "is", "it", "this", "here"),
    *("photo", "picture", "image", "drawing", "video", "clip", "painting", "view", "scene", "card", "one", "sees"),
    *("style", "background", "coloured", "like", "top", "bottom", "side", "next", "to", "moving"),
    *(SHAPE, CHARACTER, "object", "thing", "creature", "small", "large", "new"),
    *("left", "right", "above", "below", "middle", "up", "down"),
    *(word for pair in SYNONYMS.items() for word in pair),
    *LIKE.values(),
    *FORMS.values(),
    *THINGS.values(),
    *(word for pair in KINDS.items() for word in pair),
)


def vocabulary() -> dict[str, int]:
    """Returns word -> id, 192 in all; `<eos>` has the highest id, since CLIP's text model pools there by default."""
    spare = tuple(f"<spare{i}>" for i in range(IDS - 4 - len(WORDS)))
    return {word: i for i, word in enumerate((PAD, UNKNOWN, BEGIN, *WORDS, *spare, END))}


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Returns the tokenizer: lower case, one token per word, `<bos> ... <eos>`, 20 tokens at most, 192 entries."""
    return word_level(vocabulary(), LENGTH)
