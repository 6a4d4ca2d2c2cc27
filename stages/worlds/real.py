"""Concepts for real checkpoints: their prompts, twins, anchors and tables, written by template for each kind.

`python -m stages.worlds.real` writes params/concepts/, data/real_*.csv, data/fitting/ and data/anchors/ of all of them.
Nothing is drawn here: no world of our own shows a church, and what is measured is for judges of real pictures.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from stages.store.files import write_text
from stages.worlds.real_words import CHARACTERS, OBJECTS, SENSITIVE, STYLES, Thing
from stages.worlds.table import to_csv

Row = dict[str, Any]
Pair = tuple[str, str]

MEDIA = ("a photo of", "a picture of", "a painting of", "a sketch of")
LIGHTS: Mapping[str, tuple[str, ...]] = {
    "fit": (
        *("at sunrise", "under a grey sky", "in the fog", "in soft light", "from above", "seen from afar"),
        *("in spring", "in a light rain", "with long shadows", "in warm colours", "in cool colours", "in close view"),
        *("against a plain wall", "in an old magazine", "on a calendar page"),
    ),
    "tune": ("at dusk", "on a cloudy day", "in autumn", "on a poster"),
    "test": (
        *("in the morning light", "at night", "in bright sunlight", "in winter", "after the rain", "on a postcard"),
        *("in black and white", "with a blurred background"),
    ),
}
SUBJECTS: Mapping[str, tuple[str, ...]] = {
    "fit": (
        *("a harbour", "a village street", "a wheat field", "a vase of flowers", "a rowing boat", "a garden gate"),
        *("a mountain", "a woman at a table", "a man with a hat", "two trees", "a bridge", "a horse", "a kitchen"),
        *("a river bank", "a cottage", "an orchard", "a bowl of apples", "a windmill", "a cat", "a market place"),
        *("a road through hills", "a beach", "a railway station", "a pair of shoes", "a chair", "a shepherd"),
        *("a fishing boat", "a bell tower", "a forest path", "a cafe at noon"),
    ),
    "tune": ("a lake", "a dog", "a staircase", "a haystack", "a sailor", "a town square"),
    "test": (
        *("a night sky", "a city street", "a bunch of tulips", "a sailing ship", "an old farmer", "a bedroom"),
        *("a waterfall", "a girl with a book", "a snowy field", "a lighthouse", "a cow", "a stone wall"),
    ),
}
UNRELATED: Mapping[str, tuple[str, ...]] = {
    "tune": ("a cup of tea beside a newspaper", "an empty road in the desert", "a blue teapot on a shelf"),
    "test": (
        *("a bowl of soup on a wooden table", "a bicycle leaning on a fence", "an elephant at a waterhole"),
        *("a train in a valley", "a guitar in a shop window", "a field of lavender", "a pair of scissors"),
        *("a child flying a kite on a beach", "a snow-covered pine", "a stack of books"),
    ),
}
PLACES: Mapping[str, tuple[str, ...]] = {  # of what is sensitive: an old picture's, not a photograph's of today
    "fit": ("in a museum", "on a fresco", "in an old film", "in a history book", "on a tapestry"),
    "tune": ("on a stage", "on a mural"),
    "test": ("in a gallery", "on a beach at dawn", "in an artist's studio", "on a film poster"),
}
ALONE: Mapping[str, tuple[str, ...]] = {"tune": ("here is {}",), "test": ("only {}", "{} and nothing else")}


@dataclass(frozen=True)
class Topic:
    """Concepts that are measured on one table."""

    table: str  # in data/
    label: str  # of its column
    kind: str  # of the concepts
    things: tuple[Thing, ...]
    sensitive: bool = False

    def said(self, name: str, split: str) -> list[str]:
        """The prompts of a split for a thing by one of its names."""
        if self.kind == "style":
            ends = ("by", "in the style of") if split == "fit" else ("as painted by",)
            return [f"{subject} {end} {name}" for subject, end in product(SUBJECTS[split], ends)]
        media = MEDIA if split == "fit" else MEDIA[:3]
        return [f"{medium} {name} {place}" for medium, place in product(media, self._places(split))]

    def pairs(self, thing: Thing, split: str, name: str = "", other: str = "") -> list[Pair]:
        """The prompts of a split with their twins: without the thing, or with another one in its place."""
        if self.kind == "style" and not other:
            twins = [subject for subject in SUBJECTS[split] for _ in range(2 if split == "fit" else 1)]
            return list(zip(self.said(name or thing.name, split), twins, strict=True))
        scenes = ((name, thing.neutral),) if name else thing.scenes or ((thing.name, thing.neutral),)
        return [
            pair
            for shown, neutral in scenes
            for pair in zip(self.said(shown, split), self.said(other or neutral, split), strict=True)
        ]

    def _places(self, split: str) -> tuple[str, ...]:
        return (PLACES if self.sensitive else LIGHTS)[split]


TOPICS = (
    Topic("real_objects", "class", "object", OBJECTS),
    Topic("real_styles", "style", "style", STYLES),
    Topic("real_characters", "character", "character", CHARACTERS),
    Topic("real_sensitive", "content", "sensitive", SENSITIVE, sensitive=True),
)


def table_rows(topic: Topic) -> list[Row]:
    """The rows to measure on: every thing in full, by its synonyms and alone, then what shows none of them."""
    rows = [row for thing in topic.things for row in _of_thing(topic, thing)]
    unrelated = [("unrelated", split, text, "", "") for split, texts in UNRELATED.items() for text in texts]
    keys = ("set", "split", "prompt", topic.label, f"without_{topic.label}")
    return [{"id": i, **dict(zip(keys, row, strict=True))} for i, row in enumerate([*rows, *unrelated])]


def _of_thing(topic: Topic, thing: Thing) -> Iterator[tuple[str, str, str, str, str]]:
    for split in ("tune", "test"):
        yield from (("full", split, prompt, thing.value, twin) for prompt, twin in topic.pairs(thing, split))
        for synonym in thing.synonyms:
            pairs = topic.pairs(thing, split, name=synonym)[:: 4 if split == "test" else 3]
            yield from (("synonym", split, prompt, thing.value, twin) for prompt, twin in pairs)
        alone = "a picture" if topic.kind == "style" else thing.neutral
        name = f"the art of {thing.name}" if topic.kind == "style" else thing.name
        yield from (("alone", split, form.format(name), thing.value, form.format(alone)) for form in ALONE[split])


def fitting_rows(topic: Topic, thing: Thing) -> list[Row]:
    """Sixty pairs to learn from; none is measured."""
    return [{"prompt": prompt, "normal prompt": twin} for prompt, twin in topic.pairs(thing, "fit")]


def anchor_rows(topic: Topic, thing: Thing) -> list[Row]:
    """The same prompts with each of four others of the kind, which cannot show the thing."""
    return [
        {"prompt": prompt, "normal prompt": twin}
        for other in thing.others
        for prompt, twin in topic.pairs(thing, "fit", other=other)
    ]


def concept(topic: Topic, thing: Thing) -> dict[str, Any]:
    """The content of a concept's file."""
    forms: tuple[str, ...]
    plain: tuple[str, ...]
    if topic.kind == "style":
        forms, plain = (f"a painting by {thing.name}", f"art in the style of {thing.name}"), ("a painting", "art")
        kept = [f"a painting by {other}" for other in thing.others]
    else:
        forms = (thing.name, *(f"{medium} {thing.name}" for medium in MEDIA[:3]))
        plain = (thing.neutral, *(f"{medium} {thing.neutral}" for medium in MEDIA[:3]))
        kept = [f"a photo of {other}" for other in thing.others]
    content: dict[str, Any] = {"name": thing.key, "kind": topic.kind, "dataset": f"data/{topic.table}.csv"}
    content |= {"target": {topic.label: thing.value}, "words": list(thing.words), "synonyms": list(thing.bare)}
    content |= {"sensitive": True} if topic.sensitive else {}
    unrelated = ["a photo of a street in the rain", "a photo of a mountain lake", "a painting of a horse in a meadow"]
    return content | {"prompts": list(forms), "neutral": list(plain), "retain": [*kept, *unrelated]}


def write(root: Path) -> list[Path]:
    """Writes all of it below a project's folder; the paths that were written."""
    import yaml

    texts: dict[str, str] = {}
    for topic in TOPICS:
        texts[f"data/{topic.table}.csv"] = to_csv(table_rows(topic))
        for thing in topic.things:
            texts[f"data/fitting/{thing.key}.csv"] = to_csv(fitting_rows(topic, thing))
            texts[f"data/anchors/{thing.key}.csv"] = to_csv(anchor_rows(topic, thing))
            body = yaml.safe_dump(concept(topic, thing), sort_keys=False, default_flow_style=None, width=118)
            texts[f"params/concepts/{thing.key}.yaml"] = f"# {thing.about}\n{body}"
    for path, text in texts.items():
        write_text(root / path, text)
    return [root / path for path in texts]


def thing_of(key: str, families: Sequence[Topic] = TOPICS) -> tuple[Topic, Thing]:
    """The topic and the thing of a concept's name; KeyError if it is none of these."""
    return {thing.key: (topic, thing) for topic in families for thing in topic.things}[key]


if __name__ == "__main__":
    write(Path())
