"""Tables as people keep them: CSV with any of the usual separators, line ends and encodings, JSON and JSON lines."""

from __future__ import annotations

import csv
import io
import json
import logging
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
BINARY = {  # how files begin that are no text, and what to do with them
    b"\x1f\x8b": "gzip; unpack it first",
    b"PK\x03\x04": "a zip archive or a workbook; unpack it, or save the sheet as CSV",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook; save the sheet as CSV",
    b"PAR1": "Parquet; write it as CSV: pandas.read_parquet(path).to_csv(path, index=False)",
    b"BZh": "bzip2; unpack it first",
    b"\x28\xb5\x2f\xfd": "zstandard; unpack it first",
    b"\xfd7zXZ": "xz; unpack it first",
    b"version https://git-lfs": "a git-lfs pointer, not the table: run git lfs pull",
}
UNICODE = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}  # marks at the beginning; of UTF-8, utf-8-sig drops it
LINES = (".jsonl", ".ndjson")

Row = dict[str, Any]
log = logging.getLogger(__name__)


def read_rows(path: Path) -> list[tuple[int, Row]]:
    """The rows of a table with their numbers, from 1; every cell of a CSV is a text without blanks around it.

    Rows that are empty throughout, and a column without a name (pandas' index), are left out. FileNotFoundError, or
    ValueError that names the file and the row.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing")
    text, suffix = read_text(path), path.suffix.lower()
    read = _json_lines if suffix in LINES else _json if suffix == ".json" else _csv
    rows = read(path, text)
    for number, row in rows:
        for name, value in row.items():
            if isinstance(value, str) and not _whole(value):
                raise ValueError(f"{path}: row {number}: column {name!r}: half a character (a surrogate) in {value!r}")
    return rows


def _whole(text: str) -> bool:
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False


def read_text(path: Path) -> str:
    """The text of a file in UTF-8 or UTF-16, without its byte-order mark; ValueError for anything else."""
    data = path.read_bytes()
    for beginning, what in BINARY.items():
        if data.startswith(beginning):
            raise ValueError(f"{path}: not a table but {what}")
    halves = {1: "utf-16-le", 0: "utf-16-be"}.get(data[:2].find(b"\0"), "utf-8-sig")  # without a mark
    encoding = UNICODE.get(data[:2], halves)
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: not a CSV or JSON file in UTF-8 (byte {error.start}); save it as UTF-8: {error}"
        ) from None


def say_unused(path: Path, columns: Sequence[str]) -> None:
    """A line in the log, once for each file, with the columns that are not used."""
    if columns:
        _say_unused(str(path), tuple(columns))


@cache
def _say_unused(path: str, columns: tuple[str, ...]) -> None:
    log.info("%s: columns that are not used: %s", path, ", ".join(columns))


def _csv(path: Path, text: str) -> list[tuple[int, Row]]:
    lines = text.split("\n", 1)
    if lines[0].strip().lower().startswith("sep=") and len(lines) > 1:  # Excel's hint
        text = lines[1]
    separator = _separator(text)
    try:
        records = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True))
    except csv.Error as error:
        raise ValueError(f"{path}: not a CSV file: {error}") from None
    records = [[cell.strip() for cell in record] for record in records if record]
    if not records:
        return []
    header = records[0]
    used = _header(path, header)
    rows = [(number, record) for number, record in enumerate(records[1:], start=1) if any(record)]
    for number, record in rows:
        if len(record) < len(header) or any(record[len(header) :]):
            said = "" if separator == "," else f" (the separator is a {SEPARATORS[separator]})"
            raise ValueError(f"{path}: row {number}: expected {len(header)} columns, got {len(record)}{said}")
    return [(number, {name: record[i] for i, name in used.items()}) for number, record in rows]


def _header(path: Path, header: Sequence[str]) -> dict[int, str]:
    """The places and names of the columns that have a name; ValueError for one that stands twice."""
    named = {i: name for i, name in enumerate(header) if name and not name.startswith("Unnamed:")}
    if twice := next((name for name in named.values() if header.count(name) > 1), None):
        raise ValueError(f"{path}: column {twice!r} stands twice in the header")
    if len(named) < len(header):
        log.info("%s: a column without a name is not used", path)
    return named


def _separator(text: str) -> str:
    """The separator that the header has most of outside quotes; a comma if it has none."""
    counts, quoted = dict.fromkeys(SEPARATORS, 0), False
    for sign in text.lstrip("\r\n"):
        if sign == '"':
            quoted = not quoted
        elif not quoted and sign in "\r\n":
            break
        elif not quoted and sign in counts:
            counts[sign] += 1
    return max(counts, key=lambda sign: counts[sign])


def _json(path: Path, text: str) -> list[tuple[int, Row]]:
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not a JSON file: {error}") from None
    if isinstance(rows, list) and rows and all(isinstance(row, str) for row in rows):
        rows = [{"prompt": row} for row in rows]
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{path}: expected a list of rows")
    return [(number, _cells(row)) for number, row in enumerate(rows, start=1)]


def _json_lines(path: Path, text: str) -> list[tuple[int, Row]]:
    rows = []
    for number, line in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}: line {number}: not JSON: {error}") from None
        if not isinstance(row, dict):
            raise ValueError(f"{path}: line {number}: expected an object, got {type(row).__name__}")
        rows.append((number, _cells(row)))
    return rows


def _cells(row: Row) -> Row:
    """A row of JSON, texts without blanks around them and null as an empty text."""
    cells = {str(name).strip(): "" if value is None else value for name, value in row.items()}
    return {name: value.strip() if isinstance(value, str) else value for name, value in cells.items() if name}
