"""The settings of a method or an attack on one backbone: its own file, and what lies over that there.

    params/methods/esd_x.yaml          the method as its paper has it
    params/tuned/esd_x.yaml            world -> architecture -> the fields that differ there, for all concepts; among
                                       them kind of concept -> those in their place for that kind
    params/adapted/esd_x.yaml          checkpoint -> the fields that differ there, and on those that are `like` it
    params/tuned/attacks/p4d_k.yaml    the same of an attack

A variant's fields, `esd_x@lr=1.0e-3`, lie on top. A file that is `like` another starts from that one's fields on the
backbone; if it is tuned itself, from those that the other has in its own file.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Literal, get_args

from stages.params.load import RESERVED, alike, chain, joined, load_params, read_file
from stages.params.names import split
from stages.params.project import located
from stages.params.types import Kind

What = Literal["methods", "attacks"]
CONCEPTS: tuple[str, ...] = get_args(Kind)  # what a key below an architecture may be, beside a field
FOLDERS = {  # of what lies over a file, by what that is of
    "tuned": {"methods": "tuned", "attacks": "tuned/attacks"},
    "adapted": {"methods": "adapted", "attacks": "adapted/attacks"},
}


def method_params(name: str, backbone: str, root: Path | str = "params", kind: str = "") -> dict[str, Any]:
    """A method's fields on a backbone for concepts of a kind, `class` among them.

    A backbone without a file gets the method's own. ValueError for a world or an architecture that it is not tuned on.
    """
    return _resolved("methods", name, backbone, root, kind)


def attack_params(name: str, backbone: str, root: Path | str = "params", kind: str = "") -> dict[str, Any]:
    """An attack's fields on a backbone for concepts of a kind; as of `method_params`."""
    return _resolved("attacks", name, backbone, root, kind)


def kind_of(concept: str, root: Path | str = "params") -> str:
    """The kind that a concept's file says it is of, empty if it does not."""
    return str(load_params("concepts", concept, root).get("kind", ""))


def untuned(what: What, name: str, backbone: str, root: Path | str = "params", kind: str = "") -> str | None:
    """Why a method or an attack has no settings on a backbone for concepts of a kind, with the way out; None if it has.

    What was tuned on one world counts on no other.
    """
    about = _about(backbone, root)
    world, architecture = str(about.get("world") or ""), str(about.get("architecture"))
    file = _tuned_file(what, name, root) if world else ""
    if not file:
        return None
    worlds = layer_of("tuned", what, file, root)
    row = worlds.get(world, {}).get(architecture)
    if row is not None and (not row or kind in row or for_kind(row, "")):
        return None
    have = "; ".join(f"{name} ({', '.join(rows)})" for name, rows in worlds.items())
    here = f"{backbone} is of {world} ({architecture})" if row is None else f"for {', '.join(row)} alone there"
    path = f"params/{FOLDERS['tuned'][what]}/{split(name)[0]}.yaml"
    return f"{name} is tuned on {have}; {here}: search its settings (python -m stages.tune), or write them to {path}"


def echoes(name: str, backbone: str, root: Path | str = "params", kind: str = "") -> bool:
    """Whether a method is `like` another one and has the same fields on a backbone: a second row of one result."""
    other = next((file for file, _ in islice(chain("methods", name, root), 1, None)), "")
    if not other:
        return False
    return method_params(name, backbone, root, kind) == method_params(other, backbone, root, kind)


def layer_of(layer: str, what: What, file: str, root: Path | str = "params") -> dict[str, Any]:
    """All that a file of params/<layer>/ says of a method or an attack; {} if there is none."""
    path = located(root) / FOLDERS[layer][what] / f"{file}.yaml"
    return read_file(path) if path.is_file() else {}


def layered(layer: str, what: What, root: Path | str = "params") -> list[str]:
    """The names of the files of a layer, sorted."""
    return sorted(path.stem for path in (located(root) / FOLDERS[layer][what]).glob("*.yaml"))


def for_kind(row: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """The fields of an architecture's row for concepts of a kind: the kind's if it has its own, else those for all."""
    return dict(row[kind] or {} if kind in row else {key: row[key] for key in row if key not in CONCEPTS})


def _resolved(what: What, name: str, backbone: str, root: Path | str, kind: str) -> dict[str, Any]:
    if reason := untuned(what, name, backbone, root, kind):
        raise ValueError(reason)
    about, tuned = _about(backbone, root), _tuned_file(what, name, root)
    fields: dict[str, Any] = {}
    for file, own in reversed(list(chain(what, name, root))):
        fields = joined(fields, {key: value for key, value in own.items() if key not in RESERVED or key == "class"})
        if not about.get("world"):
            fields |= _adapted(what, file, backbone, root)
        elif file == tuned:
            fields |= for_kind(layer_of("tuned", what, file, root)[about["world"]][about["architecture"]], kind)
    return fields | split(name)[1]


def _tuned_file(what: What, name: str, root: Path | str) -> str:
    """The nearest of a file and those that it is `like` that has settings for small worlds; empty for none."""
    return next((file for file, _ in chain(what, name, root) if layer_of("tuned", what, file, root)), "")


def _adapted(what: What, file: str, backbone: str, root: Path | str) -> dict[str, Any]:
    """The fields that lie over a file on a checkpoint."""
    rows = layer_of("adapted", what, file, root)
    nearest = next((other for other in (backbone, *alike(backbone, root)) if other in rows), "")
    return dict(rows.get(nearest) or {})


def _about(backbone: str, root: Path | str) -> dict[str, Any]:
    """What a backbone's file says; {} without one."""
    return load_params("backbones", backbone, root) if any(alike(backbone, root)) else {}
