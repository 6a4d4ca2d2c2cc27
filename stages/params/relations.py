"""How a retained row stands to a concept: in the loss of methods that preserve, near the concept, or far from it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import pandas as pd

from stages.params.concept import Concept, values
from stages.params.datasets import labels

Relation = Literal["seen", "near", "far"]
RELATIONS: tuple[Relation, ...] = get_args(Relation)
RELATION = "relation"  # the key of a row that has it
Shown = tuple[str, ...]  # the values of a table's labels


@dataclass(frozen=True)
class Said:
    """What a prompt shows, as the values of a table's labels: its row's, or those it names if it stands in none."""

    rows: Mapping[str, Shown]  # prompt -> what it shows
    known: tuple[tuple[str, ...], ...]  # of each label, its values, the longest first

    @classmethod
    def of(cls, table: pd.DataFrame, names: Sequence[str]) -> Said:
        """Those of a table's rows, whatever their split."""
        shown = table[list(names)].astype(str).itertuples(index=False, name=None)
        every = (sorted({str(value) for value in table[name]} - {""}, key=lambda value: -len(value)) for name in names)
        return cls(dict(zip(table["prompt"], shown, strict=True)), tuple(map(tuple, every)))

    def __call__(self, prompt: str) -> Shown:
        """The values, empty for a label that nothing is said of."""
        if prompt in self.rows:
            return self.rows[prompt]
        return tuple(next((value for value in known if _names(prompt, value)), "") for known in self.known)


def _names(prompt: str, value: str) -> bool:
    return re.search(rf"\b{re.escape(value)}\b", prompt, re.IGNORECASE) is not None


@dataclass(frozen=True)
class Relations:
    """What tells the retained rows of a concept apart.

    seen: what the row shows, in whatever words, is among the prompts that methods are told to retain; near: it shares
    an attribute with the concept, that is, a value of another label with a prompt that methods erase the concept by or
    with its neutral twin, or one of the values of a concept of several labels; far: neither.

    >>> Relations.of(concept, table)(row)
    """

    names: tuple[str, ...]  # of the labels
    prompts: frozenset[str]  # that methods retain
    told: frozenset[Shown]  # what those show
    shared: frozenset[tuple[str, str]]  # label and value

    @classmethod
    def of(cls, concept: Concept, table: pd.DataFrame) -> Relations:
        """Those of a concept, by the rows of all splits of its table."""
        names = tuple(labels(table))
        said = Said.of(table, names)
        told = frozenset(said(prompt) for prompt in concept.retain)
        erased = [zip(names, said(prompt), strict=True) for prompt in (*concept.prompts, *concept.neutral)]
        shared = {(name, value) for pairs in erased for name, value in pairs if value and name not in concept.target}
        if len(concept.target) > 1:
            shared |= {(name, value) for name, wanted in concept.target.items() for value in values(wanted)}
        return cls(names, frozenset(concept.retain), told - {("",) * len(names)}, frozenset(shared))

    def __call__(self, row: Mapping[str, Any]) -> Relation:
        """The relation of a row that does not show the concept."""
        shown = tuple(str(row.get(name, "")) for name in self.names)
        if row["prompt"] in self.prompts or shown in self.told:
            return "seen"
        return "near" if self.shared.intersection(zip(self.names, shown, strict=True)) else "far"
