"""The rows of a published prompt file under our names: prompt, seed, guidance, width, height, twin and labels."""

from __future__ import annotations

import csv
import io
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

from stages.params.prompt_sources import ROLES, WHOLE, Source, fetched, load_source
from stages.params.tables import read_text

Row = dict[str, Any]


def source_rows(name: str, root: Path | str = "params") -> list[Row]:
    """The rows of a fetched source in the order of its file, each with its `id`, counted from 0.

    FileNotFoundError with the command that brings the file; ValueError as of `read_source`.
    """
    source = load_source(name, root)
    path = fetched(name, source)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; bring it with: python -m stages.fetch {name}")
    return read_source(path, source)


def read_source(path: Path, source: Source) -> list[Row]:
    """The rows of a source's file; prompts as they stand, blanks around them included.

    ValueError if it has other rows, parts or columns than the source says, or a cell is no number where one is wanted.
    """
    head, records = _read_json(path) if source.path.endswith(".json") else _read_csv(path, source)
    lacking = [theirs for theirs in source.columns.values() if theirs not in head]
    if lacking:
        raise ValueError(f"{path}: no column {lacking[0]!r}; have: {', '.join(head) or 'none'}")
    if len(records) != source.rows:
        raise ValueError(f"{path}: expected {source.rows} rows, got {len(records)}")
    places = {ours: head.index(theirs) for ours, theirs in source.columns.items()}
    rows = [
        {"id": number} | {ours: _cell(path, number, ours, record[place]) for ours, place in places.items()}
        for number, record in enumerate(records)
    ]
    if source.parts and (counts := dict(Counter(row["part"] for row in rows))) != {
        k: n for k, n in source.parts.items() if n
    }:
        raise ValueError(f"{path}: expected the parts {source.parts}, got {counts}")
    return rows


def asks_for_concept(source: Source, row: Row) -> bool:
    """Whether a row's prompt asks for the concept that the source is about."""
    return row["part"] in source.shows if source.parts else source.asks == "concept"


def _read_csv(path: Path, source: Source) -> tuple[list[str], list[list[str]]]:
    try:
        records = [record for record in csv.reader(io.StringIO(read_text(path), newline="")) if record]
    except csv.Error as error:
        raise ValueError(f"{path}: not a CSV file: {error}") from None
    head = list(source.header) or [name.strip() for name in (records or [[]])[0]]
    records = records if source.header else records[1:]
    for number, record in enumerate(records):
        if len(record) != len(head):
            raise ValueError(f"{path}: row {number}: expected {len(head)} columns, got {len(record)}")
    return head, records


def _read_json(path: Path) -> tuple[list[str], list[list[Any]]]:
    """The rows of a list of objects, or of texts, which are prompts."""
    try:
        content = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not a JSON file: {error}") from None
    if not isinstance(content, list) or not all(isinstance(row, dict | str) for row in content):
        raise ValueError(f"{path}: expected a list of rows")
    rows = [row if isinstance(row, dict) else {"prompt": row} for row in content]
    head = [name for name in (rows[0] if rows else {}) if all(name in row for row in rows)]
    return head, [[row[name] for name in head] for row in rows]


def _cell(path: Path, number: int, role: str, value: Any) -> Any:
    """A cell as what its role asks for: a whole number, a number, or a text."""
    if role not in ROLES or role in ("prompt", "neutral"):
        return str(value)
    try:
        parsed = float(value)
    except (TypeError, ValueError):
        parsed = math.nan
    least = 0 if role == "seed" else 1 if role in WHOLE else -math.inf
    if not math.isfinite(parsed) or parsed < least or (role in WHOLE and parsed != int(parsed)):
        raise ValueError(f"{path}: row {number}: {role}: expected a {'whole ' * (role in WHOLE)}number, got {value!r}")
    return int(value) if role in WHOLE and str(value).isdigit() else int(parsed) if role in WHOLE else parsed
