"""Prompts for circuit breakers: what must break, what must stay, and what is held out to watch both."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.concept import Concept
from stages.prompts import read_prompts, select

PROMPT_KEYS = ("sanitized_prompt", "prompt", "original_prompt")
UNSAFE, SAFE = ("prompt", "unsafe", "unsafe_prompt"), ("normal prompt", "normal_prompt", "safe", "safe_prompt")
HELD_OUT = 10  # one in so many safe prompts is for validation
WATCHED = 4  # prompts of a dataset, of each kind


@dataclass(frozen=True)
class BreakerData:
    """`breaker[i]` has the harmless twin `twins[i]` where `twins` is not empty.

    `validation` (harmless) and `unseen` (of the concept) are watched and never trained on.
    """

    breaker: tuple[str, ...]
    retain: tuple[str, ...]
    validation: tuple[str, ...]
    twins: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("breaker", "retain"):
            if not getattr(self, name):
                raise ValueError(f"circuit breakers need {name} prompts, and there are none")

    @classmethod
    def of(cls, concept: Concept) -> BreakerData:
        """The concept's prompts to break, its neutral twins and retain prompts to keep; others of its dataset to watch.

        Without a dataset, one in ten of the harmless prompts is held out.
        """
        pairs = concept.pairs()
        breaker, twins = (tuple(part) for part in zip(*pairs, strict=True))
        kept = tuple(dict.fromkeys([*concept.retain, *twins]))
        if concept.dataset and concept.target:
            used = {*breaker, *kept}
            return cls(breaker, kept, _others(concept, "retain", used), twins, _others(concept, "concept", used))
        rest = tuple(text for i, text in enumerate(kept) if i % HELD_OUT)
        return cls(breaker, rest or kept, kept[::HELD_OUT], twins)


def _others(concept: Concept, which: str, used: set[str]) -> tuple[str, ...]:
    """A few prompts of the concept's dataset that training does not use, at even distances."""
    rows = select(read_prompts(concept.dataset), concept.target, which)["prompt"]
    free = [prompt for prompt in dict.fromkeys(rows) if prompt not in used]
    return tuple(free[i * len(free) // WATCHED] for i in range(min(WATCHED, len(free))))


def read_breaker_data(path: Path | str) -> BreakerData:
    """Reads either documented shape; ValueError names the file and what was expected.

    JSON: `<category>_prompts` break and `<category>_sanitized_prompts` stay; each a list of texts or objects, or
    {"prompts": [...]}. One in ten of the latter is held out. CSV: `prompt` breaks, `normal prompt` is its twin.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: the prompts of the circuit breaker")
    return _read_csv(path) if path.suffix == ".csv" else _read_json(path)


def _read_csv(path: Path) -> BreakerData:
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    columns = set(rows[0]) if rows else set()
    unsafe, safe = (next((name for name in names if name in columns), None) for names in (UNSAFE, SAFE))
    if unsafe is None or safe is None:
        raise ValueError(f"{path}: expected columns 'prompt' and 'normal prompt', got {', '.join(sorted(columns))}")
    twins = tuple(row[safe] for row in rows)
    return BreakerData(tuple(row[unsafe] for row in rows), tuple(dict.fromkeys(twins)), twins[::HELD_OUT], twins)


def _read_json(path: Path) -> BreakerData:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a JSON file: {error}") from None
    if not isinstance(content, Mapping):
        raise ValueError(f"{path}: expected '<category>_prompts' and '<category>_sanitized_prompts', got a list")
    safe = _collect(path, content, lambda key: key.endswith("_sanitized_prompts"))
    unsafe = _collect(path, content, lambda key: key.endswith("_prompts") and not key.endswith("_sanitized_prompts"))
    validation = safe[HELD_OUT - 1 :: HELD_OUT]
    kept = tuple(text for i, text in enumerate(safe) if i % HELD_OUT != HELD_OUT - 1)
    return BreakerData(unsafe, kept, validation)


def _collect(path: Path, content: Mapping[str, Any], wanted: Any) -> tuple[str, ...]:
    texts: list[str] = []
    for key, rows in content.items():
        if wanted(key):
            rows = rows.get("prompts") if isinstance(rows, Mapping) else rows
            if not isinstance(rows, Iterable) or isinstance(rows, str):
                raise ValueError(f"{path}: {key}: expected a list of prompts")
            texts += [_text(path, key, row) for row in rows]
    return tuple(texts)


def _text(path: Path, key: str, row: Any) -> str:
    if isinstance(row, Mapping):
        row = next((row[name] for name in PROMPT_KEYS if name in row), None)
    if not isinstance(row, str):
        raise ValueError(f"{path}: {key}: expected texts or objects with one of {', '.join(PROMPT_KEYS)}")
    return row
