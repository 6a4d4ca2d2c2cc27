"""A class's fields and a digest of its code, read as source: parse time imports no torch."""

from __future__ import annotations

import ast
import builtins
import hashlib
import typing
from pathlib import Path
from typing import Any

from stages.params import types
from stages.params.load import suggestion


def class_fields(path: str, where: str) -> dict[str, str]:
    """The annotated fields of a class at a dotted path, with those of its bases: name to annotation, as written."""
    tree, (module, _, name) = _module(path, where), path.rpartition(".")
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    imports = [
        node for node in tree.body if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("stages.")
    ]
    elsewhere = {alias.asname or alias.name: f"{node.module}.{alias.name}" for node in imports for alias in node.names}
    if name in elsewhere:
        return class_fields(elsewhere[name], where)
    if name not in classes:
        raise ValueError(f"{where}: no class {name!r} in {_source(path)}{suggestion(name, classes)}")
    found: dict[str, str] = {}
    for base in reversed([ast.unparse(base) for base in classes[name].bases]):
        if base in classes or base in elsewhere:
            found |= class_fields(f"{module}.{base}", where)
    pairs = [(node.target, node.annotation) for node in classes[name].body if isinstance(node, ast.AnnAssign)]
    own = {ast.unparse(target): ast.unparse(annotation) for target, annotation in pairs}
    return found | {key: annotation for key, annotation in own.items() if not annotation.startswith("ClassVar")}


def code(path: str) -> str:
    """A digest of the module that holds a class or function, blind to comments, docstrings and layout."""
    tree = _module(path, path)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()[:16]


def annotation(source: str) -> Any:
    """The type an annotation stands for, or Any when it names something that is not a plain or constrained type."""
    try:
        return eval(source, {"__builtins__": vars(builtins)} | vars(typing) | vars(types))
    except NameError:
        return Any


def _source(path: str) -> Path:
    return Path(*path.split(".")[:-1]).with_suffix(".py")


def _module(path: str, where: str) -> ast.Module:
    source = Path(__file__).parents[2] / _source(path)
    if not path.startswith("stages.") or not source.is_file():
        raise ValueError(f"{where}: class: no module {_source(path)} for {path!r}")
    return ast.parse(source.read_text(encoding="utf-8"))
