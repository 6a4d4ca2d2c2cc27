"""The labels of a scene: each kind of concept, and the names of it."""

from collections.abc import Mapping

COLOURS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink")
OBJECTS = ("circle", "square", "triangle", "star", "heart", "cross", "moon", "flower")
TEXTURES = ("plain", "striped", "dotted")
STYLES = ("flat", "outline", "mosaic", "neon")
FIGURES = ("tivvy", "grumbo", "plonk", "zerby", "moxlo", "quindle")
WITHHELD = ("moxlo", "quindle")  # figures that no backbone is shown; a word for one is learned from pictures
PLACES = ("middle", "left", "right", "above", "below")
BACKGROUNDS = ("dark", "light", "sandy")
DIRECTIONS = ("left", "right", "up", "down")

LABELS: Mapping[str, tuple[str, ...]] = {
    "colour": COLOURS,
    "object": OBJECTS,
    "texture": TEXTURES,  # other than plain in flat style alone
    "style": STYLES,  # on a background of GROUNDS
    "figure": FIGURES,  # flat, and of colours of its own
    "place": PLACES,  # in the picture; of two objects, where the first stands from the second
    "background": BACKGROUNDS,
    "other_colour": COLOURS,  # of the second object, if there is one
    "other_object": OBJECTS,
}
GROUNDS = {"neon": ("dark",), "mosaic": ("light", "sandy")}  # style -> backgrounds on which it can be told; else any
DEFAULTS = {"texture": "plain", "style": "flat", "place": "middle"}  # what an unsaid label is
OPPOSITE = (0, 2, 1, 4, 3)  # the place of the second of two objects from the first


def index(kind: str, name: str) -> int:
    """The index of a label's name; ValueError for an unknown one."""
    if name not in LABELS[kind]:
        raise ValueError(f"{kind} must be one of {', '.join(LABELS[kind])}, got {name!r}")
    return LABELS[kind].index(name)


def parse(concept: str) -> dict[str, int]:
    """The labels, kind -> index, of a concept such as "red", "neon", "tivvy" or "striped red star".

    ValueError for a word that names none and for two words of one kind.
    """
    kinds = {name: kind for kind, names in LABELS.items() if not kind.startswith("other") for name in names}
    words = concept.split()
    found = {kinds[word]: word for word in words if word in kinds}
    if not words or len(found) < len(words):
        raise ValueError(f"a concept must be names of labels, one of a kind, got {concept!r}; have: {', '.join(kinds)}")
    return {kind: index(kind, word) for kind, word in found.items()}
