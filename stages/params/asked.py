"""The rows that a concept is measured on: of one set and one split, each with the seeds of its pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import count, islice
from typing import Any

from stages.params.check import prompt_table
from stages.params.concept import Concept
from stages.params.datasets import Split, has, select
from stages.params.project import located
from stages.params.relations import RELATION, RELATIONS, Relations
from stages.seeds import picture

Row = dict[str, Any]


def has_asked(concept: Concept, which: str, split: Split = "test") -> bool:
    """Whether the concept's dataset has rows of a set in a split."""
    return has(prompt_table(located(concept.dataset)), concept.target, which, split)


def asked(concept: Concept, which: str, n: int, split: Split = "test") -> list[Row]:
    """n rows of one set, spread evenly over the dataset; if it has fewer, each prompt comes with further seeds.

    Retained rows say under `relation` how they stand to the concept; as many are seen, near and far as there are such.
    No prompt comes twice with one seed, since the two pictures would be the same. ValueError for n below 1, and for a
    dataset that has no row of the set in that split.
    """
    if n < 1:
        raise ValueError(f"the number of {which} prompts must be 1 or more, got {n}")
    table = select(prompt_table(located(concept.dataset)), concept.target, which, split)
    if table.empty:
        raise ValueError(f"{concept.dataset}: no {which} prompts for {concept.target} to {split} on")
    records = [as_drawn({str(name): value for name, value in row.items()}) for row in table.to_dict("records")]
    parts = by_relation(concept, records) if which == "retain" else [records]
    shares = [n // len(parts) + (i < n % len(parts)) for i in range(len(parts))]
    chosen = [spread(part, share, split) for part, share in zip(parts, shares, strict=True) if share]
    turns = [((i + 0.5) / len(part), row) for part in chosen for i, row in enumerate(part)]
    return [row | {"index": i} for i, (_, row) in enumerate(sorted(turns, key=lambda turn: turn[0]))]


def as_drawn(row: Row) -> Row:
    """A row whose guidance, width and height are numbers, or not there: a table may give them to some rows alone."""
    kinds = {"guidance": float, "width": int, "height": int}
    return {
        name: kinds[name](value) if name in kinds else value
        for name, value in row.items()
        if name not in kinds or value != ""
    }


def by_relation(concept: Concept, records: Sequence[Row]) -> list[list[Row]]:
    """The retained rows that are seen, near and far, those of which there are any, each with its `relation`."""
    relation = Relations.of(concept, prompt_table(located(concept.dataset)))
    told = [row | {RELATION: relation(row)} for row in records]
    parts = ([row for row in told if row[RELATION] == which] for which in RELATIONS)
    return [part for part in parts if part]


def spread(records: Sequence[Row], n: int, split: Split) -> list[Row]:
    """n of the records, at even distances, each as often and with as many seeds as that takes."""
    many = different(records, math.ceil(n / len(records)), split)
    return [many[i * len(many) // n] for i in range(n)]


def different(records: Sequence[Row], repeats: int, split: Split = "test") -> list[Row]:
    """Every record `repeats` times, each time with another seed, and no prompt twice with one seed.

    A seed that the dataset gives is that of the record's first picture in test; without one, seeds follow from the
    record's id, so that a prompt and its neutral twin start from the same noise.
    """
    taken: set[tuple[str, int]] = set()
    rows = []
    for row in records:
        seeds = (picture(row["id"], repeat, row.get("seed"), split) for repeat in count())
        fresh = (seed for seed in seeds if (row["prompt"], seed) not in taken)
        for seed in islice(fresh, repeats):
            taken.add((row["prompt"], seed))
            rows.append(row | {"seed": seed})
    return rows
