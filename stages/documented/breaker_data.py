"""Prompts for circuit breakers: what must break, what must stay, and what is held out to watch both."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from stages.params.concept import Concept
from stages.params.datasets import read_pairs, read_prompts, select

Row = TypeVar("Row")
PROMPT_KEYS = ("sanitized_prompt", "prompt", "original_prompt")
HELD_OUT = 10  # one in so many rows is held out
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

        Without a dataset, one in ten of the pairs and of the retain prompts is held out.
        """
        pairs = concept.pairs()
        if not (concept.dataset and concept.target):
            return cls.paired(pairs, concept.retain)
        breaker, twins = (tuple(part) for part in zip(*pairs, strict=True))
        kept = tuple(dict.fromkeys([*concept.retain, *twins]))
        used = {*breaker, *kept}
        return cls(breaker, kept, _others(concept, "retain", used), twins, _others(concept, "concept", used))

    @classmethod
    def paired(cls, pairs: Sequence[tuple[str, str]], retain: Sequence[str] = ()) -> BreakerData:
        """Prompts to break with their harmless twins, which stay as `retain` does; one in ten of both is held out."""
        (pairs, held_pairs), (retain, held) = held_out(pairs), held_out(retain)
        breaker, twins = (tuple(part) for part in zip(*pairs, strict=True))
        kept = tuple(dict.fromkeys([*retain, *twins]))
        used = {*breaker, *kept}
        validation = _new([*held, *(twin for _, twin in held_pairs)], used)
        return cls(breaker, kept, validation, twins, _new([prompt for prompt, _ in held_pairs], used))


def held_out(rows: Sequence[Row]) -> tuple[tuple[Row, ...], tuple[Row, ...]]:
    """The rows to train on, and every tenth (the last of fewer); a single row is trained on."""
    last = min(HELD_OUT, len(rows)) - 1
    if last < 1:
        return tuple(rows), ()
    return tuple(row for i, row in enumerate(rows) if i % HELD_OUT != last), tuple(rows[last::HELD_OUT])


def _new(prompts: Iterable[str], used: set[str]) -> tuple[str, ...]:
    return tuple(prompt for prompt in dict.fromkeys(prompts) if prompt not in used)


def _others(concept: Concept, which: str, used: set[str]) -> tuple[str, ...]:
    """A few prompts of the concept's dataset that training does not use, at even distances."""
    rows = select(read_prompts(concept.dataset), concept.target, which)["prompt"]
    free = _new(rows, used)
    return tuple(free[i * len(free) // WATCHED] for i in range(min(WATCHED, len(free))))


def read_breaker_data(path: Path | str) -> BreakerData:
    """Reads either documented shape; ValueError names the file and what was expected.

    JSON: `<category>_prompts` break and `<category>_sanitized_prompts` stay; each a list of texts or objects, or
    {"prompts": [...]}. CSV: `prompt` breaks, `normal prompt` is its twin. One in ten rows of either side is held out.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: the prompts of the circuit breaker")
    return BreakerData.paired(read_pairs(path)) if path.suffix == ".csv" else _read_json(path)


def _read_json(path: Path) -> BreakerData:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a JSON file: {error}") from None
    if not isinstance(content, Mapping):
        raise ValueError(f"{path}: expected '<category>_prompts' and '<category>_sanitized_prompts', got a list")
    safe = _collect(path, content, lambda key: key.endswith("_sanitized_prompts"))
    unsafe = _collect(path, content, lambda key: key.endswith("_prompts") and not key.endswith("_sanitized_prompts"))
    (kept, validation), (breaker, unseen) = held_out(safe), held_out(unsafe)
    used = {*kept, *breaker}
    return BreakerData(breaker, kept, _new(validation, used), unseen=_new(unseen, used))


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
