"""The files of params/tuned/ and params/adapted/, checked before anything runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stages.params import check
from stages.params.effect import check_effect
from stages.params.layers import CONCEPTS, FOLDERS, What, for_kind, layer_of, layered
from stages.params.load import RESERVED, load_params, names, suggestion
from stages.params.names import split


def check_layers(what: What, name: str, root: Path | str = "params") -> None:
    """Raises a ValueError for anything that does not exist in what lies over the file of a method or an attack."""
    file = split(name)[0]
    own = {key: value for key, value in load_params(what, file, root).items() if key not in RESERVED or key == "class"}
    if worlds := layer_of("tuned", what, file, root):
        where = f"params/{FOLDERS['tuned'][what]}/{file}.yaml"
        check.check_schema(worlds, "tuned", where)
        for world, architecture, row in ((world, *item) for world, rows in worlds.items() for item in rows.items()):
            family = _families_of(root).get(architecture)
            for there, fields in _rows(row, f"{where}: {world}: {architecture}"):
                _check(own, fields, there, family, root)
    where = f"params/{FOLDERS['adapted'][what]}/{file}.yaml"
    for backbone, fields in layer_of("adapted", what, file, root).items():
        if backbone not in names("backbones", root):
            raise ValueError(f"{where}: no backbone {backbone!r}{suggestion(str(backbone), names('backbones', root))}")
        about = load_params("backbones", backbone, root)
        if about.get("world"):
            raise ValueError(
                f"{where}: {backbone} is a small world: put its fields into "
                f"params/{FOLDERS['tuned'][what]}/{file}.yaml under {about['world']}, {about.get('architecture')}"
            )
        _check(own, fields, f"{where}: {backbone}", about["family"], root)


def check_strays(root: Path | str = "params") -> None:
    """Raises a ValueError for a file of params/tuned/ or params/adapted/ that lies over nothing."""
    whats: tuple[What, ...] = ("methods", "attacks")
    for layer, folders in FOLDERS.items():
        for what in whats:
            for file in layered(layer, what, root):
                if file not in names(what, root):
                    have = suggestion(file, names(what, root))
                    raise ValueError(f"params/{folders[what]}/{file}.yaml: no {what[:-1]} {file!r}{have}")


def _rows(row: Mapping[str, Any], where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """An architecture's fields for all concepts, and those for each kind, with where they stand."""
    yield where, for_kind(row, "")
    yield from ((f"{where}: {kind}", for_kind(row, kind)) for kind in CONCEPTS if kind in row)


def _check(own: Mapping[str, Any], fields: Mapping[str, Any], where: str, family: str | None, root: Path | str) -> None:
    if not isinstance(fields, Mapping):
        raise ValueError(f"{where}: expected a mapping of fields, got {fields!r}")
    check.check_fields(fields, own["class"], where, root, whole=False)
    tree = check.tree_of(root)
    check_effect(own["class"], {**own, **fields}, fields, where, family=family, tree=tree)


def _families_of(root: Path | str) -> dict[str, str]:
    """The family of each architecture that a backbone has."""
    abouts = (load_params("backbones", name, root) for name in names("backbones", root))
    return {about["architecture"]: about["family"] for about in abouts if "architecture" in about}
