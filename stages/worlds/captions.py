"""Captions of the world of shapes. Some leave out the colour, the shape or both."""

import torch
from torch import Tensor

from stages.worlds.words import SYNONYMS

DIRECTIONS = ("left", "right", "up", "down")
TEMPLATES = ("{}", "a photo of {}", "a picture of {}", "an image of {}", "a drawing of {}", "{} on a {} background")
LEFT_OUT = (0.78, 0.07, 0.06, 0.03, 0.06)  # shares of captions: both, colour, shape, neither named; empty
SYNONYM_SHARE = 0.1  # of names that are replaced by their synonym


def phrase(colour: str, shape: str) -> str:
    """Returns such as `a red circle`; an empty colour is left out, an empty shape becomes `shape`."""
    words = [word for word in (colour, shape or "shape") if word]
    return f"{article(words[0])} {' '.join(words)}"


def article(word: str) -> str:
    """Returns `a` or `an`, by the first letter."""
    return "an" if word[0] in "aeiou" else "a"


def write_captions(
    colours: list[str], shapes: list[str], light: Tensor, directions: list[str] | None, generator: torch.Generator
) -> list[str]:
    """Returns N captions for the `colours` and `shapes` of N pictures.

    `light` (N,) says which backgrounds are light; `directions` holds N ways of moving, for clips. A colour or shape
    that a caption leaves out is uniform given the caption.
    """
    n = len(colours)
    template = torch.randint(len(TEMPLATES), (n,), generator=generator).tolist()
    kind = torch.multinomial(torch.tensor(LEFT_OUT), n, replacement=True, generator=generator).tolist()
    renamed = (torch.rand(n, 2, generator=generator) < SYNONYM_SHARE).tolist()
    captions = []
    for i in range(n):
        colour, shape = (_rename(name, go) for name, go in zip((colours[i], shapes[i]), renamed[i], strict=True))
        named = phrase(colour if kind[i] in (0, 1) else "", shape if kind[i] in (0, 2) else "")
        if directions is not None:
            named = f"{named} moving {directions[i]}"
        text = TEMPLATES[template[i]].format(named, "light" if light[i] else "dark")
        captions.append("" if kind[i] == 4 else text)
    return captions


def _rename(name: str, rename: bool) -> str:
    return SYNONYMS.get(name, name) if rename else name
