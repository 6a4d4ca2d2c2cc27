"""The prompt datasets of the world of scenes, `data/scenes*.csv`.

A row holds the prompt, what it may serve (fit, tune or test, by its template), its labels, and the prompt without each
of them. Sets: `full` names labels by their own words, `alone` one label only, `synonym` says labels in other words,
`implied` in words that do not name them.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import product

from stages.worlds.captions import DIRECTIONS
from stages.worlds.scenes.grammar import TEMPLATES, Said
from stages.worlds.scenes.labels import BACKGROUNDS, COLOURS, FIGURES, OBJECTS, PLACES, STYLES, TEXTURES, WITHHELD
from stages.worlds.scenes.words import CHARACTER, FORMS, KINDS, LIKE, SHAPE, SYNONYMS, THINGS

Row = dict[str, str | int]
Labels = dict[str, str]  # kind -> name
Scene = tuple[Said, Labels]

DROP: dict[str, Callable[[Said], Said]] = {  # a description without the words for a kind
    "colour": lambda said: replace(said, colour="", like="", noun=_form(said.noun)),
    "object": lambda said: replace(said, noun=SHAPE, like=said.like or _colour_of(said.noun)),
    "texture": lambda said: replace(said, texture=""),
    "style": lambda said: replace(said, style=""),
    "figure": lambda said: replace(said, noun=CHARACTER),
    "place": lambda said: replace(said, place=""),
    "background": lambda said: replace(said, background=""),
}
LEARNED = WITHHELD[0]  # the figure that a new word is learned for
NEW_WORD = "<new>"  # its alias
SHOWN = tuple(name for name in FIGURES if name not in WITHHELD)


def picture_rows() -> list[Row]:
    """Returns the rows of `scenes.csv`: every label in each split, objects of each colour in every template."""
    rows = [_row("full", split, t, scene, DROP) for split, t in _templates() for scene in objects()]
    for kind, scenes in {"full": variety(), "alone": alone(), "synonym": synonyms(), "implied": implied()}.items():
        for i, scene in enumerate(scenes):
            for split, templates in TEMPLATES.items():
                if kind in ("synonym", "implied") and split == "fit":
                    continue  # held out: whoever fits on them has not erased a concept but its words
                for k in range(2):
                    rows.append(_row(kind, split, templates[(i + 2 * k) % len(templates)], scene, DROP))
    return _numbered(rows)


def clip_rows() -> list[Row]:
    """Returns the rows of `scenes_motion.csv`: each colour, object, figure and direction, in each split."""
    drop = {kind: DROP[kind] for kind in ("colour", "object", "figure")}
    drop["direction"] = lambda said: replace(said, direction="")
    rows = []
    for i, (said, labels) in enumerate([*objects(), *figures()]):
        for (split, templates), way in product(TEMPLATES.items(), DIRECTIONS):
            scene = replace(said, direction=way), {**labels, "direction": way}
            rows.append(_row("full", split, templates[i % len(templates)], scene, drop))
    return _numbered(rows)


def new_word_rows() -> list[Row]:
    """Returns the rows of `scenes_new_word.csv`: the alias of the figure LEARNED, and every fourth prompt of others.

    None is of a template to fit on.
    """
    scenes = [(said, {**labels, "figure": LEARNED}) for said, labels in _faces(LEARNED)]
    rows = [_row("full", split, t, scene, DROP) for split, t in _templates() if split != "fit" for scene in scenes]
    rows = [
        {**row, **{key: str(row[key]).replace(LEARNED, NEW_WORD) for key in row if _is_prompt(key)}} for row in rows
    ]
    others = [row for row in picture_rows() if row["set"] == "full" and row["split"] != "fit"]
    return _numbered([*rows, *({key: row[key] for key in row if key != "id"} for row in others[::4])])


def objects() -> Iterator[Scene]:
    """A flat plain object of each colour and form."""
    for colour, thing in product(COLOURS, OBJECTS):
        yield Said(colour=colour, noun=thing), {"colour": colour, "object": thing}


def figures() -> Iterator[Scene]:
    """Each figure that is not withheld."""
    for name in SHOWN:
        yield Said(noun=name), {"figure": name}


def variety() -> Iterator[Scene]:
    """Objects with a texture, in a style, at a place or on a background, and figures: some of each colour and form."""
    for i, (colour, step) in enumerate(product(range(len(COLOURS)), (0, 3))):
        said, labels = _object(colour, step)
        for texture in TEXTURES[1:]:
            yield replace(said, texture=texture), {**labels, "texture": texture}
        for style in STYLES[1:]:
            yield replace(said, style=style), {**labels, "style": style}
        place, ground = PLACES[1 + i % 4], BACKGROUNDS[i % len(BACKGROUNDS)]
        yield replace(said, place=place), {**labels, "place": place}
        yield replace(said, background=ground), {**labels, "background": ground}
    for name in SHOWN:
        yield from _faces(name)


def _faces(name: str) -> Iterator[Scene]:
    """A figure, at each place and on each background."""
    said, labels = Said(noun=name), {"figure": name}
    yield said, labels
    yield from ((replace(said, place=place), {**labels, "place": place}) for place in PLACES[1:])
    yield from ((replace(said, background=ground), {**labels, "background": ground}) for ground in BACKGROUNDS)


def alone() -> Iterator[Scene]:
    """One label and nothing else."""
    yield from ((Said(colour=name), {"colour": name}) for name in COLOURS)
    yield from ((Said(noun=name), {"object": name}) for name in OBJECTS)
    yield from ((Said(texture=name), {"texture": name}) for name in TEXTURES[1:])
    yield from ((Said(style=name), {"style": name}) for name in STYLES[1:])
    yield from figures()


def synonyms() -> Iterator[Scene]:
    """Every label in another word: each colour and form, and each texture and style with some."""
    for said, labels in objects():
        yield _renamed(said), labels
    for i in range(len(COLOURS)):
        said, labels = _object(i, 1)
        for texture in TEXTURES[1:]:
            yield _renamed(replace(said, texture=texture)), {**labels, "texture": texture}
        for style in STYLES[1:]:
            yield _renamed(replace(said, style=style)), {**labels, "style": style}


def implied() -> Iterator[Scene]:
    """Colours, forms, both and figures by words that do not name them."""
    yield from ((Said(like=LIKE[name]), {"colour": name}) for name in COLOURS)
    yield from ((Said(noun=FORMS[name]), {"object": name}) for name in OBJECTS)
    for said, labels in objects():
        yield replace(said, colour="", noun=FORMS[labels["object"]], like=LIKE[labels["colour"]]), labels
    for (colour, thing), word in THINGS.items():
        yield Said(noun=word), {"colour": colour, "object": thing}
    yield from ((Said(noun=KINDS[name]), {"figure": name}) for name in SHOWN)


def _object(colour: int, step: int) -> Scene:
    """An object of a colour, another for each step."""
    names = COLOURS[colour], OBJECTS[(colour + step) % len(OBJECTS)]
    return Said(colour=names[0], noun=names[1]), dict(zip(("colour", "object"), names, strict=True))


def _renamed(said: Said) -> Said:
    words = {kind: SYNONYMS.get(getattr(said, kind), "") for kind in ("texture", "colour", "noun", "style")}
    return Said(texture=words["texture"], colour=words["colour"], noun=words["noun"], style=words["style"])


def _form(noun: str) -> str:
    """A word for the form alone: that of a thing whose colour is implied, too, else the noun itself."""
    return next((FORMS[thing] for (_, thing), word in THINGS.items() if word == noun), noun)


def _colour_of(noun: str) -> str:
    """What has the colour that a noun implies, "" for none."""
    return next((LIKE[colour] for (colour, _), word in THINGS.items() if word == noun), "")


def _templates() -> Iterator[tuple[str, str]]:
    yield from ((split, template) for split, templates in TEMPLATES.items() for template in templates)


def _row(kind: str, split: str, template: str, scene: Scene, drop: dict[str, Callable[[Said], Said]]) -> Row:
    """A row whose twins leave out each kind that has words in it, and colour and object at once."""
    said, labels = scene
    row: Row = {"set": kind, "split": split, "prompt": template.format(said)}
    row |= {name: labels.get(name, "") for name in drop}
    without = {name: leave(said) if name in labels else said for name, leave in drop.items()}
    row |= {f"without_{name}": template.format(twin) for name, twin in without.items()}
    both = {"colour", "object"} <= labels.keys()
    neither = replace(said, colour="", like="", noun=SHAPE) if both else said
    return row | {"without_colour_object": template.format(neither)}


def _is_prompt(key: str) -> bool:
    return key == "prompt" or key.startswith("without_")


def _numbered(rows: Sequence[Row]) -> list[Row]:
    """The rows with an id, each prompt once in a set."""
    different = {(row["set"], row["prompt"]): row for row in reversed(rows)}
    kept = [row for row in rows if different[row["set"], row["prompt"]] is row]
    return [{"id": i, **row} for i, row in enumerate(kept)]
