"""What a class of this project declares, read as source: fields with the comments beside them, bases and results."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def fields(path: str) -> list[dict[str, str]]:
    """The fields of a dataclass with those of its bases: name, type, default and the comment beside or above it."""
    found: dict[str, dict[str, str]] = {}
    for base in reversed(definition(path).bases):
        if (other := resolved(ast.unparse(base), path)) is not None:
            found |= {row["field"]: row for row in fields(other)}
    lines = file_of(path).read_text(encoding="utf-8").splitlines()
    for node in definition(path).body:
        if isinstance(node, ast.AnnAssign) and not ast.unparse(node.annotation).startswith("ClassVar"):
            default = ast.unparse(node.value) if node.value is not None else ""
            row = {"field": f"`{ast.unparse(node.target)}`", "type": f"`{spelled_out(node.annotation, path)}`"}
            row |= {"default": f"`{default}`" if default else "", "meaning": said_beside(lines, node)}
            found[row["field"]] = row
    return list(found.values())


def spelled_out(annotation: ast.expr, path: str) -> str:
    """An annotation in the class at `path`; a name that stands for a list of words as these words."""
    text = ast.unparse(annotation)
    found = resolved(text, path) if text.isidentifier() else None
    for node in module(found).body if found else ():
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == found.rpartition(".")[2]:
            value = ast.unparse(node.value)
            return value if value.startswith("Literal[") else text
    return text


def said_beside(lines: list[str], node: ast.AnnAssign) -> str:
    """The comment at the end of a field's line or, without one, those on the lines above it."""
    beside = lines[node.end_lineno - 1][node.end_col_offset :].strip()
    if beside.startswith("#"):
        return beside.lstrip("# ")
    above, number = [], node.lineno - 2
    while number >= 0 and lines[number].strip().startswith("#"):
        above.insert(0, lines[number].strip().lstrip("# "))
        number -= 1
    return " ".join(above)


def fit_returns(path: str) -> str:
    """The intervention that a method's `fit` is annotated with."""
    for node in definition(path).body:
        if isinstance(node, ast.FunctionDef) and node.name == "fit" and node.returns is not None:
            return f"`{ast.unparse(node.returns)}`"
    base = next((resolved(ast.unparse(base), path) for base in definition(path).bases), None)
    return fit_returns(base) if base else ""


def definition(path: str) -> ast.ClassDef:
    """The source of the class at an import path."""
    name = path.rpartition(".")[2]
    return next(node for node in module(path).body if isinstance(node, ast.ClassDef) and node.name == name)


def resolved(name: str, path: str) -> str | None:
    """The import path of a name in the module of the class at `path`; None if it is not of this project."""
    for node in module(path).body:
        if isinstance(node, ast.ClassDef | ast.Assign) and name == (
            node.name if isinstance(node, ast.ClassDef) else ast.unparse(node.targets[0])
        ):
            return f"{path.rpartition('.')[0]}.{name}"
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("stages."):
            for alias in node.names:
                if (alias.asname or alias.name) == name and (ROOT / f"{node.module.replace('.', '/')}.py").is_file():
                    return f"{node.module}.{alias.name}"
    return None


def module(path: str) -> ast.Module:
    """The source of the module in which the class at an import path stands."""
    return ast.parse(file_of(path).read_text(encoding="utf-8"))


def file_of(path: str) -> Path:
    """The file of that module."""
    return ROOT / f"{path.rpartition('.')[0].replace('.', '/')}.py"
