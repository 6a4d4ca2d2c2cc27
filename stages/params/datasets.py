"""Prompt datasets: tables of prompts with labels, and the prompts of one concept in them.

A label is a column X with a partner `without_X`, which holds the same prompt with X left out (its neutral twin).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

import jsonschema
import pandas as pd
import yaml

from stages.params.concept import values
from stages.params.pairs import plain
from stages.params.project import located
from stages.params.tables import Row, read_rows, say_unused

Target = Mapping[str, str | Sequence[str]]  # label -> the value that counts as the concept, or several

SCHEMA = Path(__file__).parent / "schemas" / "prompts.schema.yaml"
Split = Literal["fit", "tune", "test"]  # what a row may serve: to learn from, to choose settings by, to report
SETS = ("concept", "neutral", "retain", "alone", "synonym", "implied")
INTEGERS = ("id", "seed", "width", "height")
NUMBERS = ("guidance",)
DRAWN = ("seed", "guidance", "width", "height")  # how a row is drawn, if its table says so
KEPT = ("id", "prompt", *DRAWN)  # of a set's rows, beside their labels
COLUMNS = {  # other names of a dataset's columns, where the table has none of the name itself
    "id": ("case number",),
    "prompt": ("sensitive prompt", "unsafe prompt", "concept prompt", "original prompt", "adv prompt", "caption"),
    "seed": ("evaluation seed", "sd seed"),
    "guidance": ("evaluation guidance", "sd guidance scale", "guidance scale"),
    "width": ("sd image width", "image width"),
    "height": ("sd image height", "image height"),
}


def read_prompts(path: str | Path) -> pd.DataFrame:
    """Returns the rows of a dataset (see `stages.params.tables`): id, set, prompt, seed, labels and their twins.

    Columns that are not used stay in it and are named once in the log. FileNotFoundError; ValueError names the file,
    the row, the column and what it takes.
    """
    path = located(path)
    rows = read_rows(path)
    if not rows:
        raise ValueError(f"{path}: no prompts in it")
    names = _renamed(list(rows[0][1]))
    rows = [(number, {names.get(name, name): value for name, value in row.items()}) for number, row in rows]
    rows = [(number, _typed(row)) for number, row in rows]
    for number, row in rows:
        _check(path, number, row)
    table = pd.DataFrame([row for _, row in rows])
    table = table.astype({name: object for name in table if table[name].isna().any()}).fillna("")
    if table["id"].duplicated().any():
        raise ValueError(
            f"{path}: column id: {table['id'][table['id'].duplicated()].iloc[0]} stands in more than one row"
        )
    if "split" in table and (table["split"] == "").any():
        raise ValueError(f"{path}: column split: id {table['id'][table['split'] == ''].iloc[0]} has none")
    used = {"set", "split", *KEPT, *labels(table)}
    say_unused(path, [name for name in table.columns if name not in used and not name.startswith("without_")])
    return table


def labels(table: pd.DataFrame) -> list[str]:
    """Returns the names of the label columns."""
    return [name for name in table.columns if f"without_{name}" in table.columns]


def select(table: pd.DataFrame, target: Target, which: str, split: Split | None = None) -> pd.DataFrame:
    """Returns the rows (id, prompt, seed and labels) of one set of the concept `target`, such as {"colour": "red"}.

    Of one split only, if one is named: a table without the column has rows for test alone.

    concept: prompts that show it; neutral: the same rows without it; retain: prompts that do not show it;
    alone: prompts that name it and nothing else; synonym: prompts that mean it in another word; implied: prompts that
    show it without naming it, as "a tomato" shows red.
    """
    if which not in SETS:
        raise ValueError(f"prompt set must be one of {', '.join(SETS)}, got {which!r}")
    shown = _shows(table, target)
    named = {which: [which] for which in ("alone", "synonym", "implied")}
    kinds = {"retain": ["full", "unrelated"], **named}.get(which, ["full"])
    rows = table[(~shown if which == "retain" else shown) & table["set"].isin(kinds) & _of(table, split)]
    if which == "alone":
        rows = rows[(rows[[name for name in labels(table) if name not in target]] == "").all(axis=1)]
    if which == "neutral":
        rows = _neutral(rows, tuple(target))
    return rows[[name for name in KEPT if name in rows] + labels(table)].reset_index(drop=True)


def has(table: pd.DataFrame, target: Target, which: str, split: Split | None = None) -> bool:
    """Whether `select` finds a row: False, too, if the table has no column of the prompts without the concept.

    ValueError as of `select` for a label or a value that the table does not have.
    """
    if which == "neutral" and _twins(target) not in table:
        return False
    return not select(table, target, which, split).empty


def _of(table: pd.DataFrame, split: Split | None) -> pd.Series:
    """Which rows are of a split."""
    if split is None or "split" not in table:
        return pd.Series(split in (None, "test"), index=table.index)
    return table["split"] == split


def _shows(table: pd.DataFrame, target: Target) -> pd.Series:
    have = labels(table)
    shown = pd.Series(True, index=table.index)
    for name, wanted in target.items():
        if name not in have:
            lone = f": the column {name!r} has no partner 'without_{name}'" if name in table.columns else ""
            raise ValueError(f"no label {name!r} in the prompts{lone}; have: {', '.join(have) or 'none'}")
        known = sorted(set(table[name]) - {""})
        for value in values(wanted):
            if value not in known:
                raise ValueError(f"no prompts with {name} {value!r}; have: {', '.join(known)}")
        shown &= table[name].isin(values(wanted))
    if not target:
        raise ValueError(f"a concept needs at least one label of {', '.join(have)}")
    return shown


def _neutral(rows: pd.DataFrame, names: tuple[str, ...]) -> pd.DataFrame:
    column = _twins(names)
    if column not in rows:
        raise ValueError(f"no column {column!r} with the prompts without {' and '.join(names)}")
    return rows.assign(prompt=rows[column], **dict.fromkeys(names, ""))


def _twins(names: Iterable[str]) -> str:
    """The column with the prompts in which these labels are left out."""
    return f"without_{'_'.join(names)}"


def _renamed(columns: Sequence[str]) -> dict[str, str]:
    """The columns that stand for `id`, `prompt` and `seed` under another name, by their own."""
    bare = {plain(name): name for name in columns}
    wanted: tuple[str, ...] = ("set", "split", *KEPT)
    names = {bare[name]: name for name in wanted if name not in columns and name in bare}
    for name, others in COLUMNS.items():
        if name not in bare and (other := next((bare[other] for other in others if other in bare), None)):
            names[other] = name
    return names


def _typed(row: Row) -> Row:
    """Whole numbers as such (`7` and `7.0`), and every cell that is not used as a text; an empty guidance or size is
    none."""
    return {
        name: _typed_cell(name, value)
        for name, value in row.items()
        if value != "" or name == "seed" or name not in DRAWN
    }


def _typed_cell(name: str, value: Any) -> Any:
    if name in NUMBERS:
        return _number(value)
    return _integer(value) if name in INTEGERS else _cell(name, value)


def _number(value: Any) -> Any:
    """A number that is written as a text; anything else as it stands, for the schema to refuse."""
    written = isinstance(value, str) and re.fullmatch(r"[0-9]+(\.[0-9]*)?(e[+-]?[0-9]+)?", value)
    return float(value) if written else value


def _integer(value: Any) -> Any:
    whole = re.fullmatch(r"(-?[0-9]+)(\.0*)?", str(value)) if isinstance(value, str | float) else None
    return int(whole[1]) if whole else value


def _cell(name: str, value: Any) -> Any:
    used = name in ("set", "split", "prompt") or name.startswith("without_")
    return value if used or isinstance(value, str) else str(value)


def _check(path: Path, number: int, row: dict[str, object]) -> None:
    error = jsonschema.exceptions.best_match(_validator().iter_errors(row))
    if error is None:
        return
    if error.validator == "required":
        missing = next(name for name in error.validator_value if name not in row)
        raise ValueError(f"{path}: column {missing!r} is missing; have: {', '.join(row)}")
    column, expected = error.path[0], f"{error.validator} {error.validator_value}"
    raise ValueError(f"{path}: row {number}: column {column!r}: expected {expected}, got {error.instance!r}")


@cache
def _validator() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(yaml.safe_load(SCHEMA.read_text(encoding="utf-8")))
