"""Captions of scenes, by a grammar: "a photo of a striped red star on the left of a sandy background"."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from stages.worlds.captions import article
from stages.worlds.scenes.labels import BACKGROUNDS, DEFAULTS, FIGURES
from stages.worlds.scenes.words import CHARACTER, FORMS, KINDS, LIKE, SHAPE, SYNONYMS, THINGS

TEMPLATES: Mapping[str, tuple[str, ...]] = {  # by split: of prompts to fit on, to tune on and to test on
    "fit": ("{}", "a photo of {}", "a picture of {}", "this is {}"),
    "tune": ("an image of {}", "a view of {}", "here is {}"),
    "test": ("a drawing of {}", "a painting of {}", "a scene with {}", "one sees {}"),
}
LEFT_OUT = (0.80, 0.07, 0.06, 0.02, 0.05)  # shares of captions: all named; no colour; no object; neither; empty
SAID = {
    "texture": 0.15,
    "style": 0.15,
    "place": 0.1,
    "background": 0.5,
}  # shares of captions that say a default, or which
RENAMED = 0.1  # share of words that are replaced by their synonym
IMPLIED = 0.12  # share of captions of one object or figure that imply a label instead of naming it
STANDS = {  # in the picture
    **{"middle": "in the middle", "left": "on the left", "right": "on the right"},
    **{"above": "at the top", "below": "at the bottom"},
}
FROM = {"left": "left of", "right": "right of", "above": "above", "below": "below"}  # the second object


@dataclass(frozen=True)
class Said:
    """The words of one description. Empty ones are not said; whatever is said is said in the order of the fields.

    >>> str(Said(texture="striped", colour="red", noun="star", place="left", background="sandy"))
    'a striped red star on the left of a sandy background'
    """

    texture: str = ""
    colour: str = ""
    noun: str = SHAPE  # an object, a figure, or a word for either
    like: str = ""  # what has the colour
    style: str = ""
    place: str = ""  # in the picture, or from the second object
    other: "Said | None" = None
    background: str = ""
    direction: str = ""

    def __str__(self) -> str:
        words = " ".join(word for word in (self.texture, self.colour, self.noun) if word)
        parts = [words if words in FIGURES else f"{article(words)} {words}"]
        if self.like:
            parts.append(f"coloured like {self.like}")
        if self.style:
            parts.append(f"in {self.style} style")
        if self.other:
            parts.append(f"{FROM[self.place]} {self.other}")
        elif self.place:
            parts.append(STANDS[self.place])
        if self.background:
            joint = "of" if self.place and not self.other else "on"
            parts.append(f"{joint} {article(self.background)} {self.background} background")
        if self.direction:
            parts.append(f"moving {self.direction}")
        return " ".join(parts)


def around(words: Mapping[str, str]) -> Said:
    """What is said around a shape: kind -> word, of texture, style, place, background and direction."""
    texture, style, place, ground, direction = (
        words.get(kind, "") for kind in ("texture", "style", "place", "background", "direction")
    )
    return Said(texture=texture, style=style, place=place, background=ground, direction=direction)


def every_template() -> tuple[str, ...]:
    """Those of all splits: what a backbone's captions are of."""
    return tuple(template for templates in TEMPLATES.values() for template in templates)


def write_captions(labels: Sequence[Mapping[str, str]], generator: torch.Generator) -> list[str]:
    """Returns a caption for the labels of each picture, kind -> name; a kind that does not apply is missing.

    Colour, object and figure are left out of some captions; given the caption they are then uniform. An unsaid texture,
    style or place is the default; an unsaid background may be any.
    """
    templates, n = every_template(), len(labels)
    template = torch.randint(len(templates), (n,), generator=generator).tolist()
    kind = torch.multinomial(torch.tensor(LEFT_OUT), n, replacement=True, generator=generator).tolist()
    chances = torch.rand(n, 16, generator=generator).tolist()
    captions = []
    for i, truth in enumerate(labels):
        said = _said(truth, kind[i], chances[i])
        captions.append("" if kind[i] == len(LEFT_OUT) - 1 else templates[template[i]].format(said))
    return captions


def _said(truth: Mapping[str, str], kind: int, chances: Sequence[float]) -> Said:
    """What a caption of a `kind` in LEFT_OUT says; `chances` are uniform in [0, 1)."""
    if "figure" in truth:
        known = KINDS[truth["figure"]] if chances[0] < IMPLIED else truth["figure"]
        return replace(_around(truth, chances[6:], look=False), noun=CHARACTER if kind in (2, 3) else known)
    colour, noun = _renamed(truth["colour"], chances[1]), _renamed(truth["object"], chances[2])
    if "other_object" in truth:
        second = _renamed(truth["other_colour"], chances[3]), _renamed(truth["other_object"], chances[4])
        other = Said(colour=second[0], noun=second[1])
        return replace(_around(truth, chances[6:], look=False), colour=colour, noun=noun, other=other)
    if kind in (1, 3):
        colour = ""
    if kind in (2, 3):
        noun = SHAPE
    said = replace(_around(truth, chances[6:], look=True), colour=colour, noun=noun)
    return _implied(said, truth, chances[5]) if chances[0] < IMPLIED else said


def _renamed(word: str, chance: float) -> str:
    return SYNONYMS.get(word, word) if chance < RENAMED else word


def _around(truth: Mapping[str, str], chances: Sequence[float], look: bool) -> Said:
    """What is said around a noun; of texture and style, which only `look` at an object tells, one at most is said."""
    words = {}
    for (kind, share), chance, change in zip(SAID.items(), chances, chances[len(SAID) :], strict=False):
        name = truth.get(kind, "")
        if name and (chance < share or name not in (*DEFAULTS.values(), *BACKGROUNDS)):
            words[kind] = _renamed(name, change)
    if not look or truth["style"] != DEFAULTS["style"]:
        words.pop("texture", None)
    if not look or "texture" in words:
        words.pop("style", None)
    return around({**words, "direction": truth.get("direction", "")})


def _implied(said: Said, truth: Mapping[str, str], chance: float) -> Said:
    """The same with a word that implies the colour, the object or both, if they were said."""
    colour, thing = truth["colour"], truth["object"]
    ways = []
    if said.colour:
        ways.append(replace(said, colour="", like=LIKE[colour]))
    if said.noun != SHAPE:
        ways.append(replace(said, noun=FORMS[thing]))
    if len(ways) == 2 and (colour, thing) in THINGS:
        ways += [replace(said, colour="", noun=THINGS[colour, thing])] * 2
    return ways[int(chance * len(ways))] if ways else said
