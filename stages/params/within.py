"""Methods that are fitted within another one's training (`of`, `edit`): all that is known of them beforehand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stages.params import check
from stages.params.check_methods import check_method, check_method_on
from stages.params.effect import effective
from stages.params.layers import method_params
from stages.params.source import class_fields, merged, returned

KEYS = ("of", "edit")  # fields that name another method's file


def referred(content: Mapping[str, Any], root: Path | str = "params") -> Iterator[tuple[str, str]]:
    """The fields that name another method's file, with the names; not those that have no effect with the others."""
    fields = {key: value for key, value in content.items() if key != "class"}
    values = effective(content["class"], fields, check.tree_of(root))
    yield from ((key, values[key]) for key in KEYS if isinstance(values.get(key), str) and values[key])


def check_within(method: str, backbone: str, root: Path | str = "params", kind: str = "") -> None:
    """Raises a ValueError when a method that another one names is wrong, cannot work on the backbone, makes something
    else than is needed, or is of a third one."""
    where, content, tree = named(method), method_params(method, backbone, root, kind), check.tree_of(root)
    for key, other in referred(content, root):
        try:
            path = check_method(other, root)["class"]
            check_method_on(other, backbone, root, kind)
        except ValueError as error:
            raise ValueError(f"{where}: {key}: {error}") from None
        if key == "of" and "of" in class_fields(path, where, tree):
            raise ValueError(f"{where}: of: {other} is of another method itself; name that one")
        wanted, made = merged(content["class"], "MAKES", tree).get(key), returned(path, "fit", tree)
        if wanted and made != wanted:
            raise ValueError(f"{where}: {key}: {other} makes {_article(made)}, and {_article(wanted)} is needed")


def named(method: str) -> str:
    """How an error calls a method: its file, or the name of a variant."""
    return method if "@" in method else f"params/methods/{method}.yaml"


def _article(name: str) -> str:
    return f"{'an' if name[:1] in 'AEIOU' else 'a'} {name}"
