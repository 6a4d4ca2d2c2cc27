"""Which states of the frozen network's runs a method trains on, as its class says; the class is read, not imported."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from stages.params.modules import TREE
from stages.params.source import class_fields, constant

Kept = Literal["final", "ends", "all"]  # of a run's states: the last, the first and the last, or every one
ALWAYS = ""  # in place of a field: whatever the fields say
# What a class says in its constant READS: for a field, what is read if it is set, or what for each of its values. A
# class without the constant reads nothing, and makes what it gathers itself.
Reads = Mapping[str, Kept | Mapping[str, Kept]]
ORDER: tuple[Kept, ...] = get_args(Kept)


def enough(kept: Kept, wanted: Kept) -> bool:
    """Whether runs of which `kept` is kept have what is `wanted` of them."""
    return ORDER.index(kept) >= ORDER.index(wanted)


def most(several: Iterable[Kept | None]) -> Kept | None:
    """What serves all of several needs; None if none needs anything."""
    known = [one for one in several if one is not None]
    return max(known, key=ORDER.index) if known else None


def kept_states(content: Mapping[str, Any], tree: Path = TREE) -> Kept | None:
    """What a method of these fields, `class` among them, reads of the frozen network's runs; None for nothing."""
    path = content["class"]
    reads: Reads = constant(path, "READS", tree) or {}
    fields = class_fields(path, path, tree)
    needs: list[Kept | None] = []
    for name, wanted in reads.items():
        value = True if name == ALWAYS else content.get(name, fields[name].default)
        if isinstance(wanted, str):
            needs.append(wanted if value else None)
        else:
            needs.append(wanted.get(str(value)))
    return most(needs)
