"""What a file of a method or an attack may say, and on which backbones it may work."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.params.check import (
    check_fields,
    check_names,
    checked,
    families,
    tree_of,
)
from stages.params.effect import check_effect, settings
from stages.params.layers import layer_of, method_params, untuned
from stages.params.load import RESERVED, alike, load_params, names, own_keys
from stages.params.names import split
from stages.params.source import constant


def check_method(name: str, root: Path | str = "params") -> dict[str, Any]:
    """A method's content; ValueError for anything in its file that does not exist, on any backbone."""
    where, content = name if "@" in name else f"params/methods/{name}.yaml", checked("methods", name, root)
    if "backbones" in content:
        raise ValueError(
            f"{where}: backbones: what differs on a small world stands in params/tuned/{split(name)[0]}.yaml by "
            f"world and architecture, on a finished checkpoint in params/adapted/{split(name)[0]}.yaml by its name"
        )
    own = {key: value for key, value in content.items() if key not in RESERVED}
    path, tree = content["class"], tree_of(root)
    check_fields(own, path, where, root)
    check_effect(path, own, _own(own, "methods", name, root), where, tree=tree)
    check_names(content, "families", families(root), where)
    check_names(content, "checkpoints", families(root), where)
    check_names(content, "concepts", names("concepts", root), where)
    check_names(content, "refuses", names("backbones", root), where)
    return content


def check_method_on(method: str, backbone: str, root: Path | str = "params", kind: str = "") -> None:
    """Raises a ValueError when a method cannot work on a backbone, or its fields there are wrong."""
    own, about = load_params("methods", method, root), load_params("backbones", backbone, root)
    if not works_on(own, about["family"]):
        have = ", ".join(own["families"])
        raise ValueError(f"{method} works on {have}; {backbone} is of the family {about['family']}")
    if reason := refusal(own, backbone, root):
        raise ValueError(f"{method} cannot work on {backbone}: {reason}")
    check_world(method, backbone, root)
    where = method if "@" in method else f"params/methods/{method}.yaml"
    resolved = method_params(method, backbone, root, kind)
    check_fields(resolved, own["class"], where, root)
    check_effect(own["class"], resolved, split(method)[1], where, family=about["family"], tree=tree_of(root))


def check_world(method: str, backbone: str, root: Path | str = "params") -> None:
    """Raises a ValueError for settings tuned to the small worlds on a finished checkpoint, with those for one.

    Not if there are fields for that very backbone in params/adapted/: then it was meant. Nor for the reverse, which
    costs minutes and may be what a study asks about.
    """
    own, about = load_params("methods", method, root), load_params("backbones", backbone, root)
    if not own.get("world") or about.get("world") or backbone in layer_of("adapted", "methods", split(method)[0], root):
        return
    files = {name: _readable("methods", name, root) for name in names("methods", root)}
    fit = [
        name
        for name, other in files.items()
        if other.get("class") == own["class"] and not other.get("world") and works_on(other, about["family"])
    ]
    raise ValueError(
        f"{method} has settings for the small worlds (world: true) and {backbone} is a finished checkpoint; "
        f"for it: {', '.join(fit) or f'none; write a file that is like: {method}, with world: false'}"
    )


def check_attack(name: str, root: Path | str = "params") -> dict[str, Any]:
    """An attack's content; ValueError for anything in its file that does not exist."""
    where, content = f"params/attacks/{name}.yaml", checked("attacks", name, root)
    own = {key: value for key, value in content.items() if key != "families"}
    check_fields(own, content["class"], where, root)
    check_effect(content["class"], own, _own(own, "attacks", name, root), where, tree=tree_of(root))
    check_names(content, "families", families(root), where)
    return content


def check_gate(attack: str, method: str, backbone: str, root: Path | str = "params", kind: str = "") -> None:
    """Raises a ValueError when an attack on gates is to attack a method that has none on that backbone."""
    tree = tree_of(root)
    if not constant(load_params("attacks", attack, root)["class"], "GATED", tree) or gated(
        method, backbone, root, kind
    ):
        return
    have = ", ".join(name for name in names("methods", root) if gated(name, backbone, root, kind))
    raise ValueError(
        f"{attack} attacks the gate of a method, and {method} has none on {backbone}; put it into a cell of methods "
        f"that have one ({have}), or choose another attack, such as unlearndiffatk"
    )


def gated(method: str, backbone: str, root: Path | str = "params", kind: str = "") -> bool:
    """Whether a method has a gate on a backbone: its class says `GATE`, "always" or a field, `none` or 0 without.

    One that is not tuned for the backbone has none there.
    """
    if untuned("methods", method, backbone, root, kind):
        return False
    content = method_params(method, backbone, root, kind)
    gate = constant(content["class"], "GATE", tree_of(root))
    if not gate or gate == "always":
        return bool(gate)
    return settings(content["class"], content, tree_of(root))[gate] not in ("none", 0)


def works_on(content: Mapping[str, Any], family: str) -> bool:
    """Whether a method's or an attack's file admits backbones of that family."""
    return family in content.get("families", [family])


def refusal(content: Mapping[str, Any], backbone: str, root: Path | str = "params") -> str | None:
    """Why a method's file says that it cannot work on a backbone, or on one that this is like; None if it does not."""
    reasons = content.get("refuses") or {}
    about = load_params("backbones", backbone, root)
    meant = content.get("checkpoints", [about["family"]])
    if not about.get("world") and about["family"] not in meant:
        return (
            f"its settings are for checkpoints of {', '.join(meant)}, and the family of this one is {about['family']}"
        )
    return next((str(reasons[name]) for name in alike(backbone, root) if name in reasons), None)


def _own(content: Mapping[str, Any], kind: str, name: str, root: Path | str) -> list[str]:
    """The keys of a content that its own file says, in the file's order."""
    own = own_keys(kind, name, root)
    return [key for key in content if key in own]


def _readable(kind: str, name: str, root: Path | str) -> dict[str, Any]:
    """A file's content; {} if it cannot be read: a broken file stops only the studies that name it."""
    try:
        return load_params(kind, name, root)
    except ValueError:
        return {}
