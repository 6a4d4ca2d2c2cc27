"""Fields that have no effect together with others, as the classes of methods and attacks say it in `NEEDS`.

    NEEDS: ClassVar[Needs] = {"guidance": {"states": ("student", "fresh")}, "empty": {"preserve": True}}

says that `guidance` counts only with one of these states, and `empty` only with a `preserve` above 0. `family` stands
for the backbone's family. Fields that contradict each other stand in `REFUSES`, each with the way out:

    REFUSES: ClassVar[Refuses] = {"peace >= steps": "peace: {peace} of {steps} steps leaves none to attack in; ..."}
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

from stages.params.modules import TREE
from stages.params.source import class_fields, merged
from stages.params.types import Refuses

FAMILY = "family"  # a condition on the backbone, which is no field


def settings(path: str, content: Mapping[str, Any], tree: Path = TREE) -> dict[str, Any]:
    """Every field of the class at a dotted path: its default, or what the content says instead."""
    known = class_fields(path, path, tree)
    return {key: content.get(key, field.default) for key, field in known.items()}


def effective(path: str, content: Mapping[str, Any], tree: Path = TREE) -> dict[str, Any]:
    """The fields that have an effect together, with their values: equal for contents that compute the same."""
    values, needs = settings(path, content, tree), merged(path, "NEEDS", tree)
    return {key: value for key, value in values.items() if not any(unmet(needs.get(key, {}), values))}


def check_effect(
    path: str,
    content: Mapping[str, Any],
    written: Iterable[str],
    where: str,
    *,
    family: str | None = None,
    tree: Path = TREE,
) -> None:
    """Raises a ValueError for a field that is `written` in the content and has no effect, and for fields, written there
    or not, that contradict each other; with the way out.

    What is written as 0, null or empty says itself that it has none. Conditions on the family count only if one is
    given.
    """
    values, needs = settings(path, content, tree) | {FAMILY: family}, merged(path, "NEEDS", tree)
    _refuse(merged(path, "REFUSES", tree), values, f"{where}: ")
    for key in written:
        if not values.get(key):
            continue
        for other, wanted in unmet(needs.get(key, {}), values):
            if other == FAMILY:
                raise ValueError(f"{where}: {key} has no effect on the family {family}; leave {key} out")
            beside = f"{other}: {_shown(values[other])}"
            raise ValueError(f"{where}: {key} has no effect with {beside}; {_way(other, wanted)}, or leave {key} out")


def departures(ran: Mapping[str, Any], plain: Mapping[str, Any], tree: Path = TREE) -> list[str]:
    """What makes a run another kind of method than its file: words of its class's `DEPARTS` for each expression whose
    value is another with the fields that ran.

    Both contents name their `class`. Empty if that is not the same.
    """
    path = plain["class"]
    if ran.get("class") != path:
        return []
    values, own = settings(path, ran, tree), settings(path, plain, tree)
    return [
        says.format(**values)
        for expression, says in merged(path, "DEPARTS", tree).items()
        if _value(expression, values) != _value(expression, own)
    ]


def _value(expression: str, values: Mapping[str, Any]) -> Any:
    value = eval(expression, {"__builtins__": {}}, dict(values))  # written in a class of ours, not in a file
    return list(value) if isinstance(value, tuple) else value


def check_settings(method: object) -> None:
    """Raises a ValueError for fields of a method that contradict each other, as its class says in `REFUSES`."""
    values = {field.name: getattr(method, field.name) for field in fields(cast(Any, method))}
    for cls in type(method).__mro__:
        _refuse(vars(cls).get("REFUSES", {}), values, "")


def _refuse(refuses: Refuses, values: Mapping[str, Any], where: str) -> None:
    for expression, says in refuses.items():
        if eval(expression, {"__builtins__": {}}, dict(values)):  # written in a class of ours, not in a file
            raise ValueError(where + says.format(**values))


def unmet(conditions: Mapping[str, Any], values: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The conditions that do not hold, each with its field and what that would have to be."""
    return [(key, wanted) for key, wanted in conditions.items() if not _holds(values.get(key), wanted, key)]


def _holds(value: Any, wanted: Any, key: str) -> bool:
    if key == FAMILY and value is None:
        return True
    if isinstance(wanted, bool):
        return bool(value) == wanted
    if isinstance(value, list | tuple):
        return any(one in wanted for one in value)
    return value in wanted


def _way(other: str, wanted: Any) -> str:
    if isinstance(wanted, bool):
        return f"set {other}, too" if wanted else f"leave {other} out"
    return f"choose {other}: {' or '.join(map(_shown, wanted))}"


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_shown, value))}]"
    return "null" if value is None else str(value)
