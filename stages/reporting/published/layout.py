"""What lies in a folder of published results."""

from __future__ import annotations

import lzma
from pathlib import Path
from typing import Any

FORMAT = 1
ABOUT = "study.json"  # the outline of the study, its metrics, versions, and the sha256 of every other file
OUTCOMES = "outcomes.csv.xz"  # a row per picture, a column per outcome
VALUES = "values.csv.xz"  # a row per number of a run, as its metric wrote it
RECORDS = "records.jsonl.xz"  # a record per line, without loss curves
TABLES, PAGE = "tables", "report/index.html"
RUN = ("backbone", "concept", "method", "seed")
PICTURE = ("kind", "prompts", "prompt", "noise", "attacked")  # attacked: the prompt before an attack changed it
VALUE = ("file", "prompts", "metric", "value", "ci_low", "ci_high", "n")
SAMPLES, ATTACKS = "samples", "attacks"  # the kinds of pictures, named as their folders in a run
DAMAGED = "restore it with: git checkout -- {path}, or unpack the bundle again"


def read_text(path: Path) -> str:
    """A file's text, unpacked if its name ends in .xz; FileNotFoundError or ValueError in one line with the way out."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; {DAMAGED.format(path=path)}")
    try:
        content = path.read_bytes()
        return (lzma.decompress(content) if path.suffix == ".xz" else content).decode("utf-8")
    except (lzma.LZMAError, EOFError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is damaged ({error}); {DAMAGED.format(path=path)}") from None


def packed(text: str) -> bytes:
    """Text as xz, the same bytes for the same text."""
    return lzma.compress(text.encode("utf-8"), preset=9)


def number(value: Any) -> str:
    """A number as CSV: the very number comes back; empty for None."""
    if value is None:
        return ""
    return str(int(value)) if float(value).is_integer() and abs(value) < 2**53 else repr(float(value))


def parsed(text: str) -> float | int | None:
    """The number of a cell: whole ones as int, None for an empty one."""
    if not text:
        return None
    return float(text) if any(mark in text for mark in ".en") else int(text)
