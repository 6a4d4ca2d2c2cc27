"""Sets of published prompts in a study: which rows of a source are drawn, with which seed, guidance and size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stages.params.concept import Concept, values
from stages.params.datasets import SETS
from stages.params.load import check_name, complaint, suggestion
from stages.params.prompt_rows import Row, asks_for_concept, source_rows
from stages.params.prompt_sources import load_source
from stages.params.types import Count, Natural
from stages.seeds import picture

IGNORED = {"guidance": ("guidance",), "size": ("width", "height")}


class PublishedSet(BaseModel):
    """An entry under `published` in a study's file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str = ""  # a file of params/prompts; empty: the one of the set's own name
    part: str = ""  # of the source's parts; empty: all of it
    rows: Count | None = None  # drawn, at even distances; all if absent
    seed: Natural | None = None  # of every picture, in place of the rows' own
    ignore: tuple[Literal["guidance", "size"], ...] = Field(default=())  # of the rows; the backbone's are taken


def read_sets(content: Mapping[str, Any], where: str, root: Path | str = "params") -> dict[str, PublishedSet]:
    """The published sets of a study's content by name, their sources filled in; ValueError names the key at fault."""
    sets: dict[str, PublishedSet] = {}
    for name, entry in (content.get("published") or {}).items():
        here = f"{where}: published.{name}"
        if check_name(name, "prompt set") in SETS:
            raise ValueError(f"{here}: {name} is a set of the concept's own table; choose another name")
        known = list(PublishedSet.model_fields)
        for key in entry or {}:
            if key not in known:
                raise ValueError(f"{here}: unknown key {key!r}{suggestion(str(key), known)}")
        try:
            one = PublishedSet(**(entry or {}))
        except ValidationError as error:
            raise ValueError(f"{here}: {error.errors()[0]['loc'][0]}: {complaint(error)}") from None
        sets[name] = one.model_copy(update={"source": one.source or name})
        _check(sets[name], here, root)
    return sets


def _check(one: PublishedSet, here: str, root: Path | str) -> None:
    source = load_source(one.source, root)
    if one.part and one.part not in source.parts:
        raise ValueError(f"{here}: part: {one.source} has no part {one.part!r}{suggestion(one.part, source.parts)}")
    if source.parts and not one.part:
        raise ValueError(f"{here}: part: {one.source} has several: {', '.join(source.parts)}; name one")
    if one.rows and one.rows > available(one, root):
        raise ValueError(f"{here}: rows: {one.source} has {available(one, root)} of them, got {one.rows}")


def available(one: PublishedSet, root: Path | str = "params") -> int:
    """The rows that a set could have."""
    source = load_source(one.source, root)
    return source.parts[one.part] if one.part else source.rows


def size_of(one: PublishedSet, root: Path | str = "params") -> int:
    """The rows that a set has."""
    return one.rows or available(one, root)


def published_rows(one: PublishedSet, concept: Concept, root: Path | str = "params") -> list[Row]:
    """The rows of a set: id, index, prompt, seed, the labels of the concept, and what else is given.

    A row without a seed of its own gets that of its place, as rows of our own tables do. FileNotFoundError if the
    source is not fetched; ValueError for a prompt that should name one of several concepts and names none.
    """
    source = load_source(one.source, root)
    rows = [row for row in source_rows(one.source, root) if not one.part or row["part"] == one.part]
    n = size_of(one, root)
    chosen = [rows[i * len(rows) // n] for i in range(n)]
    dropped = {key for what in one.ignore for key in IGNORED[what]}
    made = []
    for index, row in enumerate(chosen):
        seed = one.seed if one.seed is not None else picture(row["id"], 0, row.get("seed"))
        shown = dict(_labels(concept, row, asks=asks_for_concept(source, row), where=f"{one.source}: row {row['id']}"))
        kept = {key: value for key, value in row.items() if key not in dropped}
        made.append(kept | shown | {"seed": seed, "index": index})
    return made


def _labels(concept: Concept, row: Row, *, asks: bool, where: str) -> Iterator[tuple[str, str]]:
    """The labels that count as the concept: its values in a row that asks for it, else what the row says."""
    for label, wanted in concept.target.items():
        if not asks:
            yield label, str(row.get(label, ""))
        elif isinstance(wanted, str):
            yield label, wanted
        else:
            named = [value for value in values(wanted) if value.lower() in row["prompt"].lower()]
            if not named:
                raise ValueError(f"{where}: the prompt names none of the {label} of the concept {concept.name}")
            yield label, max(named, key=len)
