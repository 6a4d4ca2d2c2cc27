"""The prompt datasets of the world of shapes: rows as `stages.params.datasets` reads them.

A row holds the prompt, its labels (colour, shape, direction), and the prompt without each label.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from itertools import product

from stages.worlds.captions import DIRECTIONS, TEMPLATES, phrase
from stages.worlds.shapes import Shapes
from stages.worlds.words import SYNONYMS

Row = dict[str, str | int]
NEW_WORD = "<new>"  # the alias of a learned word
FITTED = TEMPLATES[:3]  # the templates of the prompts that several pairs are erased by
LEARNED = TEMPLATES[1]  # the template of the pictures that it is learned from
SPLITS = {"fit": TEMPLATES[:2], "tune": TEMPLATES[2:4], "test": TEMPLATES[4:]}  # what prompts of a template may serve


def picture_rows(world: Shapes) -> list[Row]:
    """Returns the rows of `shapes_colors.csv`: each colour and shape together in each template, alone, by synonyms."""
    pairs = list(product(world.colours, world.shapes))
    rows = [_row("full", t, c, s) for (c, s), t in product(pairs, _templates())]
    alone = [*product(world.colours, [""]), *product([""], world.shapes)]
    rows += [_row("alone", t, c, s) for (c, s), t in product(alone, [*SPLITS["fit"], *_templates(SPLITS["test"])])]
    renamed = [(c, s, SYNONYMS[c], SYNONYMS[s]) for c, s in pairs if _both_renamed(c, s)]
    rows += [_row("synonym", t, *words) for words, t in product(renamed, _templates(TEMPLATES[2:]))]
    return _number(rows)


def clip_rows(world: Shapes) -> list[Row]:
    """Returns the rows of `shapes_motion.csv`: each colour, shape and direction together, also on both backgrounds: the
    tables to fit on have the other templates."""
    rows = []
    splits = dict(zip((TEMPLATES[0], *_templates(TEMPLATES[-1:])), ("fit", "test", "tune"), strict=True))
    for colour, shape, way, template in product(world.colours, world.shapes, DIRECTIONS, splits):
        still, moving = _row("full", template, colour, shape), template.replace("{}", f"{{}} moving {way}", 1)
        rows.append({**_row("full", moving, colour, shape), "split": splits[template]})
        rows[-1] |= {"direction": way, "without_direction": still["prompt"]}
    return _number(rows)


def new_word_rows(world: Shapes) -> list[Row]:
    """Returns the rows of `new_word.csv`: the alias of a yellow cross, and all other pairs, without `LEARNED`."""
    templates = [template for template in _templates() if template != LEARNED]
    rows = [_row("full", template, "yellow", "cross") for template in templates]
    rows = [{**row, "prompt": str(row["prompt"]).replace("yellow cross", NEW_WORD)} for row in rows]
    others = [pair for pair in product(world.colours, world.shapes) if pair != ("yellow", "cross")]
    return _number(rows + [_row("full", t, c, s) for (c, s), t in product(others, templates)])


def pair_rows(world: Shapes) -> list[Row]:
    """Returns the rows of `shape_pairs.csv`: each colour and shape as one label, and synonyms.

    A prompt with the pair's own words is of another template than those of `FITTED`.
    """
    rows = [
        {key: row[key] for key in ("set", "split", "prompt")}
        | {"pair": f"{row['colour']} {row['shape']}", "without_pair": row["without_colour_shape"]}
        for row in picture_rows(world)
        if row["colour"] and row["shape"] and (row["set"] == "synonym" or row["without_colour_shape"] not in _fitted())
    ]
    return _number(rows)


def turned_rows(world: Shapes, label: str, start: str, goal: str) -> list[Row]:
    """Returns the rows of `red_to_blue.csv` and similar files, for a `label` such as "colour".

    Prompts for `start` have the label `goal`, because an edited model shall show that; the others name neither.
    """
    templates = [template for template in _templates() if template != LEARNED]
    pairs = [dict(zip(("colour", "shape"), pair, strict=True)) for pair in product(world.colours, world.shapes)]
    turned = [_row("full", t, **pair) | {label: goal} for pair, t in product(pairs, templates) if pair[label] == start]
    rest = [pair for pair in pairs if pair[label] not in (start, goal)]
    return _number(turned + [_row("full", t, **pair) for pair, t in product(rest, templates)])


def to_csv(rows: list[Row]) -> str:
    """Returns the rows as the text of a CSV file."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _templates(templates: Sequence[str] = TEMPLATES) -> Iterator[str]:
    """The templates with each background written out."""
    for template in templates:
        backgrounds = ("dark", "light") if template.count("{}") > 1 else ("",)
        yield from (template.replace("a {} background", f"a {word} background") for word in backgrounds)


def _fitted() -> list[str]:
    return [template.format(phrase("", "")) for template in FITTED]


def _row(kind: str, template: str, colour: str, shape: str, say_colour: str = "", say_shape: str = "") -> Row:
    ink, form = say_colour or colour, say_shape or shape
    return {
        "set": kind,
        "split": _split(template),
        "prompt": template.format(phrase(ink, form)),
        "colour": colour,
        "shape": shape,
        "without_colour": template.format(phrase("", form)),
        "without_shape": template.format(phrase(ink, "")),
        "without_colour_shape": template.format(phrase("", "")),
    }


def _split(template: str) -> str:
    """The split of a template, its background written out or not; "test" for one that stands in none."""
    return next((split for split, templates in SPLITS.items() if template in templates), "test")


def _both_renamed(colour: str, shape: str) -> bool:
    return colour in SYNONYMS and shape in SYNONYMS


def _number(rows: list[Row]) -> list[Row]:
    """Returns the rows with an id."""
    return [{"id": i, **row} for i, row in enumerate(rows)]
