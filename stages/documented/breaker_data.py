"""Prompts for circuit breakers: what must break, what must stay, and what is held out to watch both."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from stages.params.concept import Concept
from stages.params.datasets import read_prompts, select
from stages.params.pairs import read_pairs
from stages.params.project import located
from stages.params.tables import read_text

Row = TypeVar("Row")
Made = TypeVar("Made")
UNSAFE_KEYS = ("prompt", "original_prompt", "unsafe_prompt")  # of a row's text that breaks, the first one counts
SAFE_KEYS = ("sanitized_prompt", "normal_prompt", "safe_prompt", "neutral_prompt")  # and of its text that stays
UNSAFE, SAFE = "_prompts", "_sanitized_prompts"  # how the names of the lists end
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
        _check_sides(self.breaker, (*self.retain, *self.twins))

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
        _check_sides([prompt for prompt, _ in pairs], [*retain, *(twin for _, twin in pairs)])
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
    {"prompts": [...]}. An object has `prompt` or `original_prompt`, `sanitized_prompt`, or both: if every text that
    breaks stands beside one that stays, these are its twins. A table or a JSON list of rows (see `read_pairs`):
    `prompt` breaks, `normal prompt` is its twin. One in ten rows of either side is held out. ValueError, too, for an
    empty text and for one that stands on both sides.
    """
    path = located(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: the prompts of the circuit breaker")
    content = _parsed(path) if path.suffix.lower() == ".json" else []
    if isinstance(content, list):
        return _named(path, lambda: BreakerData.paired(read_pairs(path)))
    breaker, safe, twins = _read_json(path, content)
    _named(path, lambda: _check_sides(breaker, safe))
    if breaker and all(text in twins for text in breaker):
        pairs = [(text, twins[text]) for text in dict.fromkeys(breaker)]
        others = _new(safe, {twin for _, twin in pairs})
        return _named(path, lambda: BreakerData.paired(pairs, others))
    return _named(path, lambda: _unpaired(breaker, safe))


def _unpaired(breaker: Sequence[str], safe: Sequence[str]) -> BreakerData:
    (kept, validation), (broken, unseen) = held_out(safe), held_out(breaker)
    used = {*kept, *broken}
    return BreakerData(broken, kept, _new(validation, used), unseen=_new(unseen, used))


def _named(path: Path, make: Callable[[], Made]) -> Made:
    """What `make` gives; its ValueError names the file."""
    try:
        return make()
    except ValueError as error:
        text = str(error)
        raise ValueError(text if text.startswith(str(path)) else f"{path}: {text}") from None


def _check_sides(breaker: Sequence[str], stay: Iterable[str]) -> None:
    """ValueError for a text of both sides, those that are held out included."""
    kept = set(stay)
    for text in breaker:
        if text in kept:
            raise ValueError(f"{text!r} stands on both sides: among the prompts that break and those that stay")


def _parsed(path: Path) -> Any:
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not a JSON file: {error}") from None


def _read_json(path: Path, content: Any) -> tuple[list[str], list[str], dict[str, str]]:
    """The texts that break, those that stay, and the twins by the texts that rows hold them beside."""
    wanted = f"expected '<category>{UNSAFE}' and '<category>{SAFE}'"
    if not isinstance(content, Mapping):
        raise ValueError(f"{path}: {wanted}, got {type(content).__name__}")
    lists = {key: _listed(path, key, rows) for key, rows in content.items() if key.endswith(UNSAFE)}
    if not lists:
        raise ValueError(f"{path}: {wanted}; have: {', '.join(map(str, content)) or 'nothing'}")
    breaker: list[str] = []
    safe: list[str] = []
    twins: dict[str, str] = {}
    for key, rows in lists.items():
        stays = key.endswith(SAFE)
        for number, row in enumerate(rows, start=1):
            shown, twin = _texts(f"{path}: {key}: row {number}", row, stays)
            if shown and twin:
                twins.setdefault(shown, twin)
            if stays:
                safe.append(twin)
            else:
                breaker.append(shown)
                safe += [twin] if twin else []
    return breaker, list(dict.fromkeys(safe)) if twins else safe, twins


def _listed(path: Path, key: str, rows: Any) -> list[Any]:
    rows = rows.get("prompts") if isinstance(rows, Mapping) else rows
    if not isinstance(rows, list):
        raise ValueError(f"{path}: {key}: expected a list of prompts")
    return rows


def _texts(where: str, row: Any, stays: bool) -> tuple[str, str]:
    """A row's text that breaks and its text that stays; one of them is empty if the row has only its list's own."""
    if isinstance(row, str):
        row = {(SAFE_KEYS if stays else UNSAFE_KEYS)[0]: row}
    cells = row if isinstance(row, Mapping) else {}
    shown, twin = (next((cells[name] for name in names if name in cells), None) for names in (UNSAFE_KEYS, SAFE_KEYS))
    if stays and twin is None:
        shown, twin = None, cells.get("prompt")  # the one text of a row that stays
    if (twin if stays else shown) is None or not all(isinstance(text, str | None) for text in (shown, twin)):
        keys = ", ".join((*SAFE_KEYS, "prompt") if stays else UNSAFE_KEYS)
        raise ValueError(f"{where}: expected texts or objects with one of {keys}, got {row!r}")
    if "" in (text.strip() for text in (shown, twin) if text is not None):
        raise ValueError(f"{where}: a prompt is empty")
    return (shown or "").strip(), (twin or "").strip()
