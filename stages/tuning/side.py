"""The tuning side: the prompts and the noise that may be looked at while settings are chosen, and no others."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from stages.params.check import prompt_table
from stages.params.concept import Concept
from stages.params.datasets import has, select
from stages.params.load import located
from stages.seeds import REPEATS, Purpose, seed_of

PICTURES = {"concept": 32, "synonym": 16, "neutral": 16, "seen": 16, "far": 16}  # of each set, in every trial
Row = dict[str, Any]


def tuning_sets(concept: Concept, pictures: Mapping[str, int] = PICTURES) -> dict[str, list[Row]]:
    """The rows (prompt, seed, labels) of each set that a concept has prompts for, as many as `pictures` says.

    Retained prompts are `seen`, if they are among those that methods are told to keep, or `far`.
    """
    table = prompt_table(located(concept.dataset))
    sets: dict[str, list[Row]] = {}
    for name, n in pictures.items():
        which = "retain" if name in ("seen", "far") else name
        if not has(table, concept.target, which):
            continue
        rows = [
            {str(key): value for key, value in row.items()}
            for row in select(table, concept.target, which).to_dict("records")
            if which != "retain" or (row["prompt"] in concept.retain) == (name == "seen")
        ]
        if rows:
            sets[name] = spread(rows, n)
    return sets


def spread(rows: list[Row], n: int) -> list[Row]:
    """n of the rows, evenly over them; each comes with further noise if there are fewer. A prompt and its twin, which
    have one id, start from the same noise."""
    repeats = math.ceil(n / len(rows))
    many = [row | {"seed": noise(row["id"], repeat)} for row in rows for repeat in range(repeats)]
    return [many[i * len(many) // n] for i in range(n)]


def noise(place: int, repeat: int) -> int:
    """The seed of the picture of the row with that id, drawn for the `repeat`-th time: no measured picture has it."""
    return seed_of(Purpose.TUNING, 0, place * REPEATS + repeat)
