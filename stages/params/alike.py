"""Backbones that are the same network trained from different seeds: one table has them all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def tables(backbones: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """The name of the table of each backbone, from the contents of their files.

    Those of one `architecture` and `world` that say which seed they were `trained` from share one, named after both;
    any other backbone has its own.
    """
    groups: dict[tuple[str, str], list[str]] = {}
    for name, content in backbones.items():
        if content.get("trained") is not None and content.get("architecture"):
            groups.setdefault((content["architecture"], content.get("world") or ""), []).append(name)
    shared = {name: "-".join(filter(None, key)) for key, names in groups.items() if len(names) > 1 for name in names}
    return {name: shared.get(name, name) for name in backbones}


def origin(content: Mapping[str, Any]) -> dict[str, Any]:
    """What a record says of where a backbone comes from: its architecture, and the seed it was trained from."""
    return {key: content[key] for key in ("architecture", "trained") if content.get(key) not in (None, "")}
