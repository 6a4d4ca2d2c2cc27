"""Markdown: pages, tables, and the table of a schema's keys."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any


def keys_of(content: Mapping[str, Any]) -> str:
    """The table of a schema's keys."""
    keys = content.get("properties", {}) | content.get("patternProperties", {})
    return table(
        [
            {
                "key": f"`{key}`",
                "takes": takes(rule),
                "needed": "yes" if key in content.get("required", []) else "",
                "meaning": rule.get("description", ""),
            }
            for key, rule in keys.items()
        ]
    )


def takes(rule: Mapping[str, Any]) -> str:
    """The values that a key takes."""
    if "enum" in rule:
        return " or ".join(f"`{value}`" for value in rule["enum"])
    return str(rule.get("type") or rule.get("$ref", "").rpartition("/")[2])


def leading(lines: Iterable[str]) -> Iterator[str]:
    """The comment lines before anything else, without their marks."""
    for line in lines:
        if not line.startswith("#"):
            return
        yield line.lstrip("# ")


def listed(words: Iterable[str]) -> str:
    """Names in code style, separated by commas."""
    return ", ".join(f"`{word}`" for word in words)


def table(rows: list[dict[str, str]]) -> str:
    """A Markdown table; empty for no rows."""
    if not rows:
        return ""
    head = list(rows[0])
    lines = [head, ["---"] * len(head), *([cell(row[key]) for key in head] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cell(text: str) -> str:
    """Text that a table's cell can hold: one line, its bars and angle brackets as they are."""
    bare = re.sub(r"\s+", " ", text).strip().replace("|", "\\|")
    return re.sub(r"(`[^`]*`)|<", lambda match: match[1] or "&lt;", bare)


def page(title: str, *parts: str) -> str:
    """A page of a title and its parts."""
    return "\n\n".join((f"# {title}", *filter(None, parts))) + "\n"
