"""Tables of prompts to learn from, of prompts with their neutral twins, and the folders of pictures beside them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from stages.params.project import located
from stages.params.tables import Row, read_rows, say_unused

CONCEPT = "{concept}"  # in a path: the name of the concept
PAIR = (  # names of the columns with the concept and without it, the clearest first
    ("prompt", "unsafe prompt", "sensitive prompt", "concept prompt", "original prompt", "adv prompt", "unsafe"),
    (
        *("normal prompt", "neutral prompt", "safe prompt", "sanitized prompt", "benign prompt", "anchor prompt"),
        *("neutral", "anchor", "safe"),
    ),
)
LOOSE = ("caption", "text", "concept")  # names of the column with the concept, if its twin is named by one of the above
FLAGS = frozenset(["true", "false", "yes", "no", "y", "n", "t", "f", "none", "nan", "null", "safe", "unsafe"])
FLAGS |= {"sfw", "nsfw", "positive", "negative", "harmful", "harmless", "toxic", "benign"}
NUMBER = re.compile(r"[+-]?(\d+[.,]?\d*|[.,]\d+)(e[+-]?\d+)?\s*%?")


def of_concept(path: str, concept: str) -> str:
    """A path with the concept's name in the place of `{concept}`."""
    return path.replace(CONCEPT, concept)


def read_pairs(path: str | Path) -> list[tuple[str, str]]:
    """Returns prompts with their neutral twins from a table with columns `prompt` and `normal prompt` or aliases.

    FileNotFoundError; ValueError names the file and what it lacks, and a column that holds flags or scores in place of
    texts. Rows without either text are refused, not skipped. Columns that are not used are named once in the log.
    """
    path = located(path)
    rows = _rows(path)
    shown, twin = (_column(path, rows, names) for names in PAIR)
    loose = None if shown or not twin else _column(path, rows, LOOSE)
    for column, names in ((shown or loose, PAIR[0]), (twin, PAIR[1])):
        if column is None:
            raise ValueError(f"{path}: no column {_either(names)}; have: {', '.join(rows[0][1])}")
    firsts, seconds = _texts(path, rows, [column for column in (shown or loose, twin) if column is not None])
    return list(zip(firsts, seconds, strict=True))


def read_texts(path: str | Path) -> tuple[list[str], list[str]]:
    """Returns the prompts of a table, and their neutral twins; no twins if it has no column of them.

    Errors as of `read_pairs`, but a column of flags is not taken for twins.
    """
    path = located(path)
    rows = _rows(path)
    shown, twin = _column(path, rows, [*PAIR[0], *LOOSE]), _column(path, rows, PAIR[1], refuse=False)
    if shown is None:
        raise ValueError(f"{path}: no column {_either(PAIR[0])}; have: {', '.join(rows[0][1])}")
    if twin is None:
        return _texts(path, rows, [shown])[0], []
    firsts, seconds = _texts(path, rows, [shown, twin])
    return firsts, seconds


def is_flag(value: Any) -> bool:
    """Whether a cell holds a number, a truth value or a class such as `nsfw`, and so no prompt."""
    text = str(value).strip().lower()
    return text in FLAGS or bool(NUMBER.fullmatch(text))


def plain(name: str) -> str:
    """A column's name without case, underscores and blanks around it."""
    return name.strip().lower().replace("_", " ")


def _rows(path: Path) -> list[tuple[int, Row]]:
    rows = read_rows(path)
    if not rows:
        raise ValueError(f"{path}: no prompts in it")
    return rows


def _either(names: Iterable[str]) -> str:
    return " or ".join(map(repr, names))


def _texts(path: Path, rows: Sequence[tuple[int, Row]], columns: Sequence[str]) -> list[list[str]]:
    """The texts of some columns, a list for each; ValueError for an empty one. Names the unused columns in the log."""
    say_unused(path, [name for name in rows[0][1] if name not in columns])
    texts: list[list[str]] = [[] for _ in columns]
    for number, row in rows:
        for column, into in zip(columns, texts, strict=True):
            into.append(_text(path, number, column, row.get(column, "")))
    return texts


def _column(path: Path, rows: Sequence[tuple[int, Row]], names: Iterable[str], *, refuse: bool = True) -> str | None:
    """The table's column of the first of these names that holds texts; ValueError if all that have a name hold flags,
    unless these are not to be refused."""
    bare = {plain(name): name for name in rows[0][1]}
    columns = [bare[name] for name in names if name in bare]
    texts = [name for name in columns if not all(is_flag(row.get(name, "")) for _, row in rows)]
    if refuse and columns and not texts:
        first = rows[0][1][columns[0]]
        raise ValueError(f"{path}: column {columns[0]!r} holds flags or scores, such as {first!r}, in place of prompts")
    return texts[0] if texts else None


def _text(path: Path, number: int, column: str, value: Any) -> str:
    if not isinstance(value, str) or NUMBER.fullmatch(value.lower()):
        raise ValueError(f"{path}: row {number}: column {column!r}: expected a prompt, got {value!r}")
    if not value.strip():
        raise ValueError(f"{path}: row {number}: a prompt is empty")
    return value.strip()
