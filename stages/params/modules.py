"""Modules read as source: what they define, import and say, and where the bases of a class stand.

Nothing here imports a module, and with it torch: the Snakefile asks at parse time.
"""

from __future__ import annotations

import ast
import builtins
import copy
import hashlib
import importlib
from collections.abc import Iterator
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from stages.params import types
from stages.params.load import suggestion
from stages.params.plugins import trees

TREE = Path(__file__).parents[2]  # the folder that holds the packages
PACKAGES = ("stages", "Infinity")
OBSERVERS = ("stages.store.tracking",)  # what is told to these stays out of a digest: a tracker changes no result
PLAIN = ("annotated_types", "collections", "pathlib", "typing")  # whose names may stand in a field's type
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


class Module:
    """The source of one module without its docstrings: what it defines, imports and says."""

    def __init__(self, name: str, path: Path, tree: Path) -> None:
        self.name, self.path, self.tree = name, path.relative_to(tree_of(name, tree)), tree
        self.source = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(self.source):
            if isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
                node.body = node.body[1:]

    @cached_property
    def classes(self) -> dict[str, ast.ClassDef]:
        return {node.name: node for node in self.source.body if isinstance(node, ast.ClassDef)}

    @cached_property
    def values(self) -> dict[str, ast.expr]:
        """What is assigned to a name at the top level."""
        values: dict[str, ast.expr] = {}
        for node in self.source.body:
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
                values |= {target.id: node.value for target in targets if isinstance(target, ast.Name)}
        return values

    @cached_property
    def origins(self) -> dict[str, str]:
        """Where each imported name comes from, as a dotted path; imports for types alone included."""
        nodes = [node for node in ast.walk(self.source) if isinstance(node, ast.Import | ast.ImportFrom)]
        return dict(pair for node in nodes for pair in self._names(node))

    @cached_property
    def imports(self) -> list[str]:
        """The project's modules that this one imports, inside functions too, but for those that are for types alone."""
        paths = [path for node in _executed(self.source) for _, path in self._names(node)]
        return sorted({_owner(path, self.tree) for path in paths if inside(path, packages())})

    @cached_property
    def digest(self) -> str:
        """A hash that sees neither comments, docstrings nor layout, nor what is told to `OBSERVERS`."""
        told = {name for name, path in self.origins.items() if inside(path, OBSERVERS)}
        source = Unobserved(told).visit(copy.deepcopy(self.source)) if told else self.source
        return hashlib.sha256(ast.dump(source).encode()).hexdigest()[:16]

    def evaluated(self, node: ast.expr) -> Any:
        """The type that an annotation stands for; ValueError for a name that is none a file's value could have."""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            node = ast.parse(node.value, mode="eval").body
        names = {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}
        return eval(ast.unparse(node), {"__builtins__": {}}, {name: self._type(name) for name in names})

    def value(self, node: ast.expr) -> Any:
        """The value of a literal, or of a name that stands for one here or where it is imported from."""
        if not isinstance(node, ast.Name):
            return literal(node)
        if node.id in self.values:
            return self.value(self.values[node.id])
        module = self._origin(node.id)
        return None if module is None else module.value(ast.Name(self.origins[node.id].rpartition(".")[2]))

    def _type(self, name: str) -> Any:
        if name in self.values:
            return self.evaluated(self.values[name])
        if name in self.origins:
            module, _, attribute = self.origins[name].rpartition(".")
            if self.origins[name] in PLAIN:
                return importlib.import_module(self.origins[name])
            if module == types.__name__:
                return getattr(types, attribute)
            if module.partition(".")[0] in PLAIN:
                return getattr(importlib.import_module(module), attribute)
            if (other := self._origin(name)) is not None:
                return other._type(attribute)
        elif name not in self.classes and hasattr(builtins, name):
            return getattr(builtins, name)
        raise ValueError(f"{name} is no type of a value in a file")

    def _origin(self, name: str) -> Module | None:
        path = self.origins.get(name, "")
        return read_module(_owner(path, self.tree), self.tree) if inside(path, packages()) else None

    def _names(self, node: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, str]]:
        if isinstance(node, ast.Import):
            yield from ((alias.asname or alias.name.partition(".")[0], alias.name) for alias in node.names)
            return
        package = self.name if self.path.name == "__init__.py" else self.name.rpartition(".")[0]
        for _ in range(node.level - 1):
            package = package.rpartition(".")[0]
        module = ".".join(filter(None, [package if node.level else "", node.module or ""]))
        yield from ((alias.asname or alias.name, f"{module}.{alias.name}") for alias in node.names)


class Unobserved(ast.NodeTransformer):
    """Takes the imports of some names out of a source, and the statements that only call them."""

    def __init__(self, names: set[str]) -> None:
        self.names = names

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.ImportFrom | None:
        node.names = [alias for alias in node.names if (alias.asname or alias.name) not in self.names]
        return node if node.names else None

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        call = node.value
        return None if isinstance(call, ast.Call) and ast.unparse(call.func) in self.names else node


def read_module(name: str, tree: Path = TREE) -> Module | None:
    """The module of a dotted name, parsed once for each time it is written; None if there is no such file."""
    path = _file(name, tree)
    if path is None:
        return None
    written = path.stat()
    return _module(name, path, tree, written.st_mtime_ns, written.st_size)


@lru_cache(maxsize=1024)
def _module(name: str, path: Path, tree: Path, _written: int, _size: int) -> Module:
    return Module(name, path, tree)


def _file(name: str, tree: Path) -> Path | None:
    path = tree_of(name, tree).joinpath(*name.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def packages() -> tuple[str, ...]:
    """The packages whose source is read: this project's, and those that have plugins."""
    return (*PACKAGES, *trees())


def tree_of(name: str, tree: Path) -> Path:
    """The folder that the package of a module lies in: `tree` for this project's own."""
    top = name.partition(".")[0]
    return tree if top in PACKAGES else trees().get(top, tree)


def _owner(path: str, tree: Path) -> str:
    """The module that a dotted path names, or that defines what it names: a package's face is looked through."""
    if _file(path, tree) is not None:
        return path
    package, _, name = path.rpartition(".")
    face = read_module(package, tree) if package else None
    if face is not None and face.path.name == "__init__.py" and name in face.origins and name not in face.classes:
        return _owner(face.origins[name], tree)
    return package


def home_of(path: str, where: str, tree: Path) -> Module:
    """The module that holds what a dotted path names."""
    module = read_module(_owner(path, tree), tree) if inside(path, packages()) else None
    if module is None or module.name == path:
        raise ValueError(f"{where}: class: no module {'/'.join(path.split('.')[:-1])}.py for {path!r}")
    return module


def bases(path: str, where: str, tree: Path) -> Iterator[tuple[Module, ast.ClassDef]]:
    """A class and its bases in the project, nearest first, each with its module."""
    module, name = home_of(path, where, tree), path.rpartition(".")[2]
    if name not in module.classes:
        if name in module.origins and inside(module.origins[name], packages()):
            yield from bases(module.origins[name], where, tree)
            return
        raise ValueError(f"{where}: no class {name!r} in {module.path}{suggestion(name, module.classes)}")
    node = module.classes[name]
    yield module, node
    for base in map(ast.unparse, node.bases):
        own = base.partition("[")[0]
        if own in module.classes:
            yield from bases(f"{module.name}.{own}", where, tree)
        elif inside(module.origins.get(own, ""), packages()):
            yield from bases(module.origins[own], where, tree)


def _executed(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """The imports below a node that run, those inside functions too."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            for other in child.orelse:
                yield from _executed(other)
        else:
            yield from _executed(child)


def inside(path: str, packages: tuple[str, ...]) -> bool:
    return any(path == package or path.startswith(f"{package}.") for package in packages)


def literal(node: ast.expr | None) -> Any:
    try:
        return None if node is None else ast.literal_eval(node)
    except ValueError:
        return None
