"""Methods, metrics and attacks of other packages, which name them by entry points; nothing of them is imported here.

    [project.entry-points."palimpsest.methods"]
    quiet = "my_package.quiet:Quiet"

makes `quiet` a method with its fields' defaults, as a file `class: my_package.quiet.Quiet` would. A constant of the
class, `FILE = {"families": ["unet"], "steps": 40}`, is what such a file says beside the class. A file of that name in
params/ comes first.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

KINDS = ("methods", "metrics", "attacks")
SAYS = "FILE"  # the constant of a class that holds what its file would say


@dataclass(frozen=True)
class Plugin:
    """One entry point."""

    name: str
    path: str  # of the class, dotted
    package: str  # the distribution that names it, and its version

    def content(self) -> dict[str, Any]:
        """What its file would say; ValueError if the class is not there."""
        return {"class": self.path} | _said(self)


@cache
def plugins() -> Mapping[str, Mapping[str, Plugin]]:
    """By kind and name. Those of the distribution that comes first on the path count, as for imports."""
    found: dict[str, dict[str, Plugin]] = {kind: {} for kind in KINDS}
    for kind in KINDS:
        for entry in entry_points(group=f"palimpsest.{kind}"):
            origin = f"{entry.dist.name} {entry.dist.version}" if entry.dist else "unknown"
            found[kind].setdefault(entry.name, Plugin(entry.name, entry.value.replace(":", "."), origin))
    return found


@cache
def trees() -> Mapping[str, Path]:
    """The packages that have plugins, each with the folder that it lies in; those that are not there are left out."""
    tops = {plugin.path.partition(".")[0] for of_kind in plugins().values() for plugin in of_kind.values()}
    places = {top: importlib.util.find_spec(top) for top in sorted(tops)}  # finds a top-level package, imports nothing
    return {
        top: Path(spec.origin).parents[1 if spec.submodule_search_locations else 0]
        for top, spec in places.items()
        if spec and spec.origin
    }


def forget() -> None:
    """Looks again at the next question: after the path has changed."""
    plugins.cache_clear()
    trees.cache_clear()


def _said(plugin: Plugin) -> dict[str, Any]:
    module, _, name = plugin.path.rpartition(".")
    tree = trees().get(module.partition(".")[0])
    base = tree.joinpath(*module.split(".")) if tree else None
    files = [base.with_suffix(".py"), base / "__init__.py"] if base else []
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        raise ValueError(f"{plugin.package}: {plugin.name}: there is no module {module}")
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return next((value for one in node.body if (value := _literal(one)) is not None), {})
    raise ValueError(f"{plugin.package}: {plugin.name}: no class {name!r} in {module}")


def _literal(node: ast.stmt) -> dict[str, Any] | None:
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    value = getattr(node, "value", None)
    if value is None or not any(isinstance(target, ast.Name) and target.id == SAYS for target in targets):
        return None
    content: dict[str, Any] = ast.literal_eval(value)
    return content
