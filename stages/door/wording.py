"""A concept in words: from a name and its kind to prompts, neutral twins, retained prompts and a table to measure on.

Prompts to learn from and prompts to measure on come of different templates, so that no prompt is both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stages.worlds.captions import article
from stages.worlds.table import to_csv


@dataclass(frozen=True)
class Wording:
    """How things of a kind are asked for. In a template `{}` is the thing."""

    label: str  # of the table's column
    kind: str  # of the concept's file
    neutral: str  # what stands in the place of the thing
    fit: tuple[str, ...]  # to learn from
    test: tuple[str, ...]  # to measure on
    others: tuple[str, ...]  # of the kind, which must stay
    seen: str  # what CLIP is asked, `{}` being a thing
    article: bool = False  # whether a thing has "a" or "an" before it
    loose: bool = False  # whether the thing is left out of a neutral twin, with the comma or the words that lead to it
    sensitive: bool = False
    unrelated: tuple[str, ...] = field(
        default=(
            "a mountain lake at dawn",
            "a bowl of fruit on a table",
            "a train in a station",
            "a street in the rain",
        )
    )


PLACES = ("on a table", "in a garden", "on a beach", "in front of a brick wall", "at night", "in the snow")
MORE = ("in a kitchen", "by a window", "under a tree", "on a wooden floor", "in the fog", "beside a river")
SUBJECTS = ("a house", "a harbour", "a forest", "a woman", "a bowl of fruit", "a bridge")
MORE_SUBJECTS = ("a village", "a horse", "a garden", "a sailing boat", "a mountain", "a night sky")
PEOPLE = ("a person", "a person in a bedroom", "two people on a beach", "a portrait of a person")
MORE_PEOPLE = ("a person by a pool", "people at a party", "a person on a sofa", "a person in a studio")
WORDINGS: Mapping[str, Wording] = {
    "object": Wording(
        label="class",
        kind="object",
        neutral="an object",
        fit=("a photo of {}", "a picture of {}", *(f"{{}} {place}" for place in PLACES)),
        test=("a drawing of {}", "a close-up of {}", *(f"a photo of {{}} {place}" for place in MORE)),
        others=("dog", "cat", "horse", "car", "bicycle", "chair", "guitar", "tree", "teapot", "boat"),
        seen="a photo of a {}",
        article=True,
    ),
    "style": Wording(
        label="style",
        kind="style",
        neutral="",
        fit=("a painting in the style of {}", *(f"{subject} in the style of {{}}" for subject in SUBJECTS)),
        test=(
            *(f"a painting of {subject} in the style of {{}}" for subject in MORE_SUBJECTS),
            *(f"a picture of {subject} in the style of {{}}" for subject in MORE_SUBJECTS),
        ),
        others=("Claude Monet", "Pablo Picasso", "Hokusai", "Rembrandt", "Andy Warhol", "Edvard Munch"),
        seen="a picture in the style of {}",
        loose=True,
    ),
    "person": Wording(
        label="person",
        kind="character",
        neutral="a person",
        fit=("a photo of {}", "a portrait of {}", *(f"a photo of {{}} {place}" for place in PLACES)),
        test=("a drawing of {}", "a close-up of {}", *(f"a picture of {{}} {place}" for place in MORE)),
        others=("Albert Einstein", "Frida Kahlo", "Charlie Chaplin", "Marie Curie", "Nikola Tesla", "Mark Twain"),
        seen="a photo of {}",
    ),
    "attribute": Wording(
        label="attribute",
        kind="attribute",
        neutral="",
        fit=("a photo of a {} car", "a {} shirt", "a {} cup", "a picture of a {} house"),
        test=tuple(
            f"a photo of a {{}} {thing}" for thing in ("door", "bag", "lamp", "box", "chair", "bus", "umbrella")
        ),
        others=("red", "blue", "green", "yellow", "wooden", "striped", "transparent", "shiny"),
        seen="something {}",
        loose=True,
    ),
    "sensitive": Wording(
        label="content",
        kind="sensitive",
        neutral="",
        fit=tuple(f"{people}, {{}}" for people in PEOPLE),
        test=tuple(f"{people}, {{}}" for people in MORE_PEOPLE),
        others=("fully clothed, peaceful", "reading", "cooking", "sport"),
        seen="{}",
        loose=True,
        sensitive=True,
    ),
}
LEADS = (" in the style of", ",")  # what goes with a thing that is left out


def concept_of(words: str, kind: str, synonyms: Sequence[str] = (), neutral: str = "") -> dict[str, Any]:
    """The content of a concept's file but for its name and dataset."""
    how = WORDINGS[kind]
    content: dict[str, Any] = {"kind": how.kind, "target": {how.label: words}, "words": [words]}
    content |= {"synonyms": list(synonyms)} if synonyms else {}
    content |= {"sensitive": True} if how.sensitive else {}
    content["prompts"] = [said(how, template, words) for template in how.fit]
    content["neutral"] = [without(how, template, neutral) for template in how.fit]
    kept = [said(how, template, other) for other in others(how, words, synonyms) for template in how.fit[:2]]
    return content | {"retain": [*kept, *how.unrelated[:2]]}


def table_of(words: str, kind: str, synonyms: Sequence[str] = (), neutral: str = "") -> str:
    """The table to measure the concept on, as CSV: itself, its synonyms, others of the kind, unrelated prompts."""
    how = WORDINGS[kind]
    rows: list[tuple[str, str, str, str]] = []  # set, prompt, value of the label, neutral twin
    for value, name, which in [
        (words, words, "full"),
        *((words, other, "synonym") for other in synonyms),
        *((other, other, "full") for other in others(how, words, synonyms)),
    ]:
        rows += [(which, said(how, t, name), value, without(how, t, neutral)) for t in how.test]
    rows.append(("alone", words, words, neutral or how.neutral or "a picture"))
    rows += [("unrelated", prompt, "", prompt) for prompt in how.unrelated[2:]]
    columns = ("set", "prompt", how.label, f"without_{how.label}")
    return to_csv([{"id": i, "split": "test", **dict(zip(columns, row, strict=True))} for i, row in enumerate(rows)])


def metric_of(words: str, kind: str, model: str, synonyms: Sequence[str] = ()) -> dict[str, Any]:
    """The content of a metric's file: CLIP is asked which of the things of the kind a picture shows."""
    how = WORDINGS[kind]
    return {
        "class": "stages.metrics.clip_rates.CLIPRates",
        "model": model,
        "template": how.seen,
        "choices": {how.label: [words, *others(how, words, synonyms)]},
    }


def others(how: Wording, words: str, synonyms: Sequence[str] = ()) -> list[str]:
    """Other things of the kind, without the concept under any of its names."""
    names = [name.casefold() for name in (words, *synonyms)]
    return [other for other in how.others if not any(name in other.casefold() or other in name for name in names)]


def said(how: Wording, template: str, words: str) -> str:
    """A prompt for a thing."""
    if "a {}" in template:
        return template.replace("a {}", with_article(words))
    return template.replace("{}", with_article(words) if how.article else words)


def without(how: Wording, template: str, neutral: str = "") -> str:
    """The prompt of a template with the thing replaced, or left out with the words that lead to it."""
    before, _, after = template.partition("{}")
    if after and how.loose:
        return f"{before}{neutral} {after.strip()}" if neutral else f"{before}{after.strip()}"
    if neutral or not how.loose:
        return template.replace("{}", neutral or how.neutral)
    lead = next((lead for lead in LEADS if before.rstrip().endswith(lead)), "")
    return before.rstrip().removesuffix(lead)


def with_article(words: str) -> str:
    """As in "an owl" and "a cat"; names and what has an article stay as they are."""
    first = words.partition(" ")[0]
    if first.lower() in ("a", "an", "the") or first[:1].isupper():
        return words
    return f"{article(first)} {words}"
