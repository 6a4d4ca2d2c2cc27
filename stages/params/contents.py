"""What a file or folder that a field names must hold, looked at before anything runs."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from stages.params.pairs import read_pairs, read_texts
from stages.params.tables import read_text
from stages.params.types import Holds

TEXTS = (".txt", ".csv", ".tsv", ".json", ".jsonl", ".yaml", ".yml", ".md")  # endings of files that are no pictures
WANTED = {
    "prompts": "a CSV or JSON with a column prompt",
    "pairs": "a CSV or JSON with the columns prompt and normal prompt",
    "breaker": "a CSV with the columns prompt and normal prompt, or a JSON of lists that break and that stay",
    "pictures": "a folder of pictures",
}


def check_contents(path: Path, holds: Holds) -> None:
    """Raises a ValueError that says what a file or folder should hold and what it holds."""
    if holds == "pictures":
        files = (one for one in path.iterdir() if one.is_file() and not one.name.startswith("."))
        if not any(one.suffix.lower() not in TEXTS for one in files):
            raise ValueError(f"{path}: no picture in it; {WANTED[holds]} is wanted")
    elif holds:
        written = path.stat()
        _check_table(path, holds, written.st_mtime_ns, written.st_size)


@cache
def _check_table(path: Path, holds: Holds, _written: int, _size: int) -> None:
    try:
        if holds == "prompts":
            read_texts(path)
        elif not (holds == "breaker" and _of_lists(path)):
            read_pairs(path)
    except ValueError as error:
        raise ValueError(f"{error}; wanted is {WANTED[holds]}") from None


def _of_lists(path: Path) -> bool:
    """Whether a file is JSON of named lists, which its own reader takes apart."""
    if path.suffix.lower() != ".json":
        return False
    try:
        return isinstance(json.loads(read_text(path)), dict)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not a JSON file: {error}") from None
