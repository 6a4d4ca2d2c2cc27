"""Variants of a method, named after the fields in which they differ from its file: `minimalist@beta=0.1,steps=40`."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

WORD = re.compile(r"[A-Za-z][\w.-]*")
SUFFIX = re.compile(r"(@[a-z_]+=[\w.+-]+(,[a-z_]+=[\w.+-]+)*)?")  # what may follow a method's own name


def split(name: str) -> tuple[str, dict[str, Any]]:
    """The name of a method's file and the fields that a variant of it changes, none for the file as it is."""
    file, _, suffix = name.partition("@")
    pairs = (part.partition("=") for part in suffix.split(",") if suffix)
    return file, {field: _read(text) for field, _, text in pairs}


def variant(method: str, fields: Mapping[str, Any]) -> str:
    """The name that `split` takes apart; ValueError for a value that no name can hold."""
    return f"{method}@{','.join(f'{field}={_written(field, value)}' for field, value in fields.items())}"


def sweep(method: str, fields: Mapping[str, Sequence[Any]]) -> Iterator[str]:
    """The names of all combinations of the fields' values, the last field changing fastest."""
    for values in product(*fields.values()):
        yield variant(method, dict(zip(fields, values, strict=True)))


def _written(field: str, value: Any) -> str:
    if isinstance(value, list | tuple) and value and not any(isinstance(one, list | tuple) for one in value):
        parts = [_written(field, one) for one in value]
        return "+".join(parts) + ("+" if len(parts) == 1 else "")  # one value with a plus behind it is a list, too
    if isinstance(value, str) and WORD.fullmatch(value) and _read(value) == value:
        return value
    if isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return json.dumps(value).replace("e+", "e")
    raise ValueError(f"{field}: a sweep takes numbers, words and lists of them, got {value!r}")


def _read(text: str) -> Any:
    if "+" in text:
        return [_read(part) for part in text.rstrip("+").split("+")]
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
