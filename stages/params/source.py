"""Classes read as source: their fields with types, their constants, and a digest of the code they rest on.

The Snakefile asks for these at parse time, so nothing here imports a class, and with it torch.
"""

from __future__ import annotations

import ast
import hashlib
import operator
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, reduce
from pathlib import Path
from typing import Any, Literal

from stages.params.modules import TREE, Module, bases, home_of, inside, literal, read_module

# What a digest leaves out. Backbones and the network behind them: a change there is a change of every result, and
# most are of loading or memory, which move no number. The others carry values and files and compute nothing.
UNWATCHED = ("Infinity", "stages.backbones", "stages.launch", "stages.params", "stages.store")


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
    return dict(_fields(tuple((module, node.name) for module, node in bases(path, where, tree))))


def check_class(path: str, where: str, tree: Path = TREE) -> None:
    """Raises a ValueError with the nearest name when there is no class at a dotted path."""
    next(bases(path, where, tree))


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
            fields[one.target.id] = Field(text, resolved, one.value is None, literal(one.value))
    return fields


def constant(path: str, name: str, tree: Path = TREE) -> Any:
    """What a class says of itself: the literal value of `name` in its body or that of its nearest base, else None."""
    for module, node in bases(path, path, tree):
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
    for module, node in reversed(list(bases(path, path, tree))):
        for one in node.body:
            if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name) and one.target.id == name:
                value = literal(one.value)
                if not isinstance(value, dict):
                    raise ValueError(f"{module.path}: {name} of {node.name} must be a literal mapping")
                found |= value
    return found


def defines(path: str, name: str, base: str, tree: Path = TREE) -> bool:
    """Whether a class or one of its bases below `base` has a method of that name."""
    for module, node in bases(path, path, tree):
        if f"{module.name}.{node.name}" == base:
            return False
        if any(isinstance(one, ast.FunctionDef) and one.name == name for one in node.body):
            return True
    return False


def returned(path: str, name: str, tree: Path = TREE) -> str:
    """The last name of the type that a method of a class, or of its nearest base, says it returns; "" if none says."""
    for _, node in bases(path, path, tree):
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
    waiting = [home_of(path, path, tree).name]
    while waiting:
        name = waiting.pop()
        module = None if name in found or inside(name, UNWATCHED) else read_module(name, tree)
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


def _not_given(value: ast.expr | None) -> bool:
    """Whether a default is `field(init=False)`: such a field is not the file's to say."""
    if not isinstance(value, ast.Call) or ast.unparse(value.func) != "field":
        return False
    return any(word.arg == "init" and literal(word.value) is False for word in value.keywords)
