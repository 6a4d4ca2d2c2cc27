"""Constrained types of hyperparameters, so that a bad value is refused with its name before any work starts."""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Interval

Holds = Literal["", "prompts", "pairs", "breaker", "pictures"]  # what `stages.params.contents` looks for in it


@dataclass(frozen=True)
class OnDisk:
    """Marks a field whose text is a path: the workflow checks that it exists and what it holds, and watches it.

    `{concept}` in the path stands for the name of the concept.
    """

    kind: Literal["file", "folder"]
    holds: Holds = ""


# What a concept is; params/tuned/ may have a setting for each kind.
Kind = Literal["attribute", "object", "texture", "style", "character", "combination", "place", "motion", "sensitive"]
KIND_OF: Mapping[str, Kind] = {  # label of a world -> the kind of a concept that it is the target of
    **{"colour": "attribute", "shape": "object", "object": "object", "texture": "texture", "style": "style"},
    **{"figure": "character", "place": "place", "direction": "motion"},
}

Count = Annotated[int, Gt(0)]
Natural = Annotated[int, Ge(0)]
Rate = Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0)]
Fraction = Annotated[float, Interval(ge=0, le=1)]
File = Annotated[str, OnDisk("file")]  # relative to the folder that holds params/; empty for none
Folder = Annotated[str, OnDisk("folder")]
Prompts = Annotated[str, OnDisk("file", "prompts")]  # a table with a prompt in each row
Pairs = Annotated[str, OnDisk("file", "pairs")]  # a table with a prompt and its neutral twin in each row
Breaker = Annotated[str, OnDisk("file", "breaker")]  # the same, or JSON of lists that break and that stay
Pictures = Annotated[str, OnDisk("folder", "pictures")]

# What a class says in `NEEDS`: fields, and the values of other fields with which alone they have an effect. `True`: any
# but 0, null or empty; `False`: one of these. `family` is the backbone's. See stages.params.effect.
Needs = Mapping[str, Mapping[str, tuple[Any, ...] | bool]]
# What a class says in `DEPARTS`: expressions of those fields that decide the kind of method, each with the words for
# another value than the method's own file has. See stages.params.effect.
Departs = Mapping[str, str]

# What a class says in `REFUSES`: an expression of its fields that must not hold, and the way out, with fields in {}.
Refuses = Mapping[str, str]
# What a class says in `MAKES`: for a field that names another method, the class that its `fit` must return.
Makes = Mapping[str, str]


def paths(annotation: Any, value: Any) -> Iterator[tuple[str, OnDisk]]:
    """The paths that a field of this type names: its text, or each text of a list; none if the type is no path."""
    if isinstance(value, str) and value:
        mark = _mark(annotation)
        if mark is not None:
            yield value, mark
    elif isinstance(value, list | tuple):
        for one in value:
            yield from paths(annotation, one)


def _mark(annotation: Any) -> OnDisk | None:
    for mark in getattr(annotation, "__metadata__", ()):
        if isinstance(mark, OnDisk):
            return mark
    return next(filter(None, map(_mark, typing.get_args(annotation))), None)
