"""Classes read as source: their fields with types, their constants, and a digest of the code they rest on.

The Snakefile asks for these at parse time, so nothing here imports a class, and with it torch.
"""

from __future__ import annotations

import ast
import builtins
import copy
import hashlib
import importlib
import operator
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache, reduce
from pathlib import Path
from typing import Any, Literal

from stages.params import types
from stages.params.load import suggestion
from stages.params.plugins import trees

TREE = Path(__file__).parents[2]  # the folder that holds the packages
PACKAGES = ("stages", "Infinity")
# What a digest leaves out. Backbones and the network behind them: a change there is a change of every result, and
# most are of loading or memory, which move no number. The others carry values and files and compute nothing.
UNWATCHED = ("Infinity", "stages.backbones", "stages.launch", "stages.params", "stages.store")
OBSERVERS = ("stages.store.tracking",)  # what is told to these stays out of a digest: a tracker changes no result
PLAIN = ("annotated_types", "collections", "pathlib", "typing")  # whose names may stand in a field's type


@dataclass(frozen=True)
class Field:
    """One field of a class, as its source has it."""

    text: str  # the annotation as written
    type: Any  # and as resolved: aliases followed, unions of literals joined
    required: bool  # it has no default
    default: Any = None  # where that is a literal


def class_fields(path: str, where: str, tree: Path = TREE) -> dict[str, Field]:
    """The fields of the class at a dotted path, with those of its bases; ValueError names `where` for a wrong path.

    A type that no file could hold (an array, a class of this project) is refused as well, naming the field.
    """
    return dict(_fields(tuple((module, node.name) for module, node in _bases(path, where, tree))))


def check_class(path: str, where: str, tree: Path = TREE) -> None:
    """Raises a ValueError with the nearest name when there is no class at a dotted path."""
    next(_bases(path, where, tree))


@lru_cache(maxsize=1024)
def _fields(classes: tuple[tuple[Module, str], ...]) -> Mapping[str, Field]:
    """The fields of a class and its bases, nearest first; modules are the same objects until they are written anew."""
    fields: dict[str, Field] = {}
    for module, name in reversed(classes):
        node = module.classes[name]
        for one in node.body:
            if not isinstance(one, ast.AnnAssign) or not isinstance(one.target, ast.Name):
                continue
            text = ast.unparse(one.annotation)
            if text.startswith("ClassVar") or _not_given(one.value):
                continue
            try:
                resolved = joined(module.evaluated(one.annotation))
            except ValueError as error:
                raise ValueError(f"{module.path}: field {one.target.id} of {node.name}: {error}") from None
            fields[one.target.id] = Field(text, resolved, one.value is None, _literal(one.value))
    return fields


def constant(path: str, name: str, tree: Path = TREE) -> Any:
    """What a class says of itself: the literal value of `name` in its body or that of its nearest base, else None."""
    for module, node in _bases(path, path, tree):
        for one in node.body:
            targets = one.targets if isinstance(one, ast.Assign) else [getattr(one, "target", None)]
            if any(isinstance(target, ast.Name) and target.id == name for target in targets):
                value = getattr(one, "value", None)
                return None if value is None else module.value(value)
    return None


def merged(path: str, name: str, tree: Path = TREE) -> dict[str, Any]:
    """The literal mappings that a class and its bases have under one name, joined; the nearest class counts.

    ValueError for one that is no literal.
    """
    found: dict[str, Any] = {}
    for module, node in reversed(list(_bases(path, path, tree))):
        for one in node.body:
            if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name) and one.target.id == name:
                value = _literal(one.value)
                if not isinstance(value, dict):
                    raise ValueError(f"{module.path}: {name} of {node.name} must be a literal mapping")
                found |= value
    return found


def defines(path: str, name: str, base: str, tree: Path = TREE) -> bool:
    """Whether a class or one of its bases below `base` has a method of that name."""
    for module, node in _bases(path, path, tree):
        if f"{module.name}.{node.name}" == base:
            return False
        if any(isinstance(one, ast.FunctionDef) and one.name == name for one in node.body):
            return True
    return False


def returned(path: str, name: str, tree: Path = TREE) -> str:
    """The last name of the type that a method of a class, or of its nearest base, says it returns; "" if none says."""
    for _, node in _bases(path, path, tree):
        for one in node.body:
            if isinstance(one, ast.FunctionDef) and one.name == name and one.returns is not None:
                return ast.unparse(one.returns).strip("'\"").rpartition(".")[2]
    return ""


def code(path: str, tree: Path = TREE) -> str:
    """A digest of every module that a class or function at a dotted path rests on, blind to comments and layout."""
    state = hashlib.sha256()
    for name, digest in closure(path, tree).items():
        state.update(f"{name} {digest}\n".encode())
    return state.hexdigest()[:16]


def closure(path: str, tree: Path = TREE) -> dict[str, str]:
    """The modules that a class or function rests on, itself first of all, each with its digest, in order of names.

    Followed from import to import down to the leaves, but for those of UNWATCHED rooms; ValueError for a wrong path.
    """
    found: dict[str, str] = {}
    waiting = [_home(path, path, tree).name]
    while waiting:
        name = waiting.pop()
        module = None if name in found or _inside(name, UNWATCHED) else read_module(name, tree)
        if module is not None:
            found[name] = module.digest
            waiting += module.imports
    return dict(sorted(found.items()))


def joined(annotation: Any) -> Any:
    """A type whose unions of literals are one literal, so that an error lists all that it takes."""
    options = typing.get_args(annotation) if typing.get_origin(annotation) in UNIONS else ()
    words = [word for one in options if typing.get_origin(one) is Literal for word in typing.get_args(one)]
    if not words:
        return annotation
    others = [one for one in options if typing.get_origin(one) is not Literal]
    return reduce(operator.or_, others, Literal[tuple(words)])


UNIONS = (typing.Union, type(int | str))


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
        return sorted({_owner(path, self.tree) for path in paths if _inside(path, packages())})

    @cached_property
    def digest(self) -> str:
        """A hash that sees neither comments, docstrings nor layout, nor what is told to `OBSERVERS`."""
        told = {name for name, path in self.origins.items() if _inside(path, OBSERVERS)}
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
            return _literal(node)
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
        return read_module(_owner(path, self.tree), self.tree) if _inside(path, packages()) else None

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


DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


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


def _home(path: str, where: str, tree: Path) -> Module:
    """The module that holds what a dotted path names."""
    module = read_module(_owner(path, tree), tree) if _inside(path, packages()) else None
    if module is None or module.name == path:
        raise ValueError(f"{where}: class: no module {'/'.join(path.split('.')[:-1])}.py for {path!r}")
    return module


def _bases(path: str, where: str, tree: Path) -> Iterator[tuple[Module, ast.ClassDef]]:
    """A class and its bases in the project, nearest first, each with its module."""
    module, name = _home(path, where, tree), path.rpartition(".")[2]
    if name not in module.classes:
        if name in module.origins and _inside(module.origins[name], packages()):
            yield from _bases(module.origins[name], where, tree)
            return
        raise ValueError(f"{where}: no class {name!r} in {module.path}{suggestion(name, module.classes)}")
    node = module.classes[name]
    yield module, node
    for base in map(ast.unparse, node.bases):
        own = base.partition("[")[0]
        if own in module.classes:
            yield from _bases(f"{module.name}.{own}", where, tree)
        elif _inside(module.origins.get(own, ""), packages()):
            yield from _bases(module.origins[own], where, tree)


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


def _inside(path: str, packages: tuple[str, ...]) -> bool:
    return any(path == package or path.startswith(f"{package}.") for package in packages)


def _not_given(value: ast.expr | None) -> bool:
    """Whether a default is `field(init=False)`: such a field is not the file's to say."""
    if not isinstance(value, ast.Call) or ast.unparse(value.func) != "field":
        return False
    return any(word.arg == "init" and _literal(word.value) is False for word in value.keywords)


def _literal(node: ast.expr | None) -> Any:
    try:
        return None if node is None else ast.literal_eval(node)
    except ValueError:
        return None
