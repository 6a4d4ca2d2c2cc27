"""Prompt datasets: tables of prompts with labels, and the prompts of one concept in them.

A label is a column X with a partner `without_X`, which holds the same prompt with X left out (its neutral twin).
"""

import csv
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import jsonschema
import pandas as pd
import yaml

from stages.params.load import located

SCHEMA = Path(__file__).parent / "schemas" / "prompts.schema.yaml"
SETS = ("concept", "neutral", "retain", "alone", "synonym")
INTEGERS = ("id", "seed")
PAIR = (  # names of the columns with the concept and without it
    ("prompt", "unsafe prompt", "unsafe", "concept prompt"),
    ("normal prompt", "neutral prompt", "neutral", "safe prompt", "safe", "sanitized prompt"),
)


def read_prompts(path: str | Path) -> pd.DataFrame:
    """Returns the rows of a .csv or .json dataset; ValueError names the file, the row, the column and what it takes."""
    path = located(path)
    rows = _read_json(path) if path.suffix == ".json" else _read_csv(path)
    if not rows:
        raise ValueError(f"{path}: no prompts in it")
    for number, row in enumerate(rows, start=1):
        _check(path, number, row)
    table = pd.DataFrame(rows)
    if table["id"].duplicated().any():
        raise ValueError(
            f"{path}: column id: {table['id'][table['id'].duplicated()].iloc[0]} stands in more than one row"
        )
    return table


def read_pairs(path: str | Path) -> list[tuple[str, str]]:
    """Returns prompts with their neutral twins from a CSV with columns `prompt` and `normal prompt`, or their aliases.

    ValueError names the file and what it lacks; rows without either are refused, not skipped.
    """
    path = located(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing")
    rows = _read_csv(path)
    if not rows:
        raise ValueError(f"{path}: no prompts in it")
    columns = {name.strip().lower().replace("_", " "): name for name in rows[0]}
    chosen = [next((columns[alias] for alias in aliases if alias in columns), None) for aliases in PAIR]
    for aliases, column in zip(PAIR, chosen, strict=True):
        if column is None:
            raise ValueError(f"{path}: no column {' or '.join(map(repr, aliases))}; have: {', '.join(rows[0])}")
    pairs = [tuple(str(row[column]).strip() for column in chosen) for row in rows]
    for number, pair in enumerate(pairs, start=1):
        if not all(pair):
            raise ValueError(f"{path}: row {number}: a prompt is empty")
    return pairs


def labels(table: pd.DataFrame) -> list[str]:
    """Returns the names of the label columns."""
    return [name for name in table.columns if f"without_{name}" in table.columns]


def select(table: pd.DataFrame, target: Mapping[str, str], which: str) -> pd.DataFrame:
    """Returns the rows (id, prompt, seed and labels) of one set of the concept `target`, such as {"colour": "red"}.

    concept: prompts that show it; neutral: the same rows without it; retain: prompts that do not show it;
    alone: prompts that name it and nothing else; synonym: prompts that mean it in another word.
    """
    if which not in SETS:
        raise ValueError(f"prompt set must be one of {', '.join(SETS)}, got {which!r}")
    shown = _shows(table, target)
    kinds = {"retain": ["full", "unrelated"], "alone": ["alone"], "synonym": ["synonym"]}.get(which, ["full"])
    rows = table[(~shown if which == "retain" else shown) & table["set"].isin(kinds)]
    if which == "alone":
        rows = rows[(rows[[name for name in labels(table) if name not in target]] == "").all(axis=1)]
    if which == "neutral":
        rows = _neutral(rows, tuple(target))
    return rows[["id", "prompt", "seed", *labels(table)]].reset_index(drop=True)


def _shows(table: pd.DataFrame, target: Mapping[str, str]) -> pd.Series:
    have = labels(table)
    shown = pd.Series(True, index=table.index)
    for name, value in target.items():
        if name not in have:
            lone = f": the column {name!r} has no partner 'without_{name}'" if name in table.columns else ""
            raise ValueError(f"no label {name!r} in the prompts{lone}; have: {', '.join(have) or 'none'}")
        values = sorted(set(table[name]) - {""})
        if value not in values:
            raise ValueError(f"no prompts with {name} {value!r}; have: {', '.join(values)}")
        shown &= table[name] == value
    if not target:
        raise ValueError(f"a concept needs at least one label of {', '.join(have)}")
    return shown


def _neutral(rows: pd.DataFrame, names: tuple[str, ...]) -> pd.DataFrame:
    column = f"without_{'_'.join(names)}"
    if column not in rows:
        raise ValueError(f"no column {column!r} with the prompts without {' and '.join(names)}")
    return rows.assign(prompt=rows[column], **dict.fromkeys(names, ""))


def _read_csv(path: Path) -> list[dict[str, object]]:
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file, restkey="", restval=None, strict=True)
        try:
            rows = list(reader)
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(f"{path}: not a CSV file: {error}") from None
    for number, row in enumerate(rows, start=1):
        if "" in row or None in row.values():
            raise ValueError(f"{path}: row {number}: expected {len(reader.fieldnames or ())} columns")
    return [{key: _integer(key, value) for key, value in row.items()} for row in rows]


def _read_json(path: Path) -> list[dict[str, object]]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a JSON file: {error}") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{path}: expected a list of rows")
    return rows


def _integer(key: str, value: str) -> int | str:
    return int(value) if key in INTEGERS and value.isascii() and value.isdigit() else value


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
