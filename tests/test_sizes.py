"""How large a thing may be: public methods of a class, parameters of a function."""

import ast
from collections.abc import Iterator

from tests import ROOT

METHODS = 15  # public ones that a class itself has, properties among them
WHOLE = 38  # with those that it inherits: backbones have the most
PARAMETERS = 7  # beside self

Function = ast.FunctionDef | ast.AsyncFunctionDef


def trees() -> Iterator[tuple[str, ast.Module]]:
    """Every module of `stages` and `Infinity`, by its path."""
    for package in ("stages", "Infinity"):
        for path in sorted((ROOT / package).rglob("*.py")):
            yield str(path.relative_to(ROOT)), ast.parse(path.read_text())


def classes() -> dict[str, tuple[list[str], set[str]]]:
    """The bases and the public methods of every class."""
    found = {}
    for path, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                bases = [ast.unparse(base).rpartition(".")[2].partition("[")[0] for base in node.bases]
                found[f"{path}: {node.name}"] = (bases, public_methods(node))
    return found


def public_methods(node: ast.ClassDef) -> set[str]:
    return {one.name for one in node.body if isinstance(one, Function) and not one.name.startswith("_")}


def whole(name: str, known: dict[str, tuple[list[str], set[str]]]) -> set[str]:
    """The public methods of a class of that name, inherited ones too."""
    bases, own = known.get(name, ([], set()))
    others = {other: value for other, value in known.items() if other != name}  # some have the name of their base
    return own.union(*(whole(base, others) for base in bases))


def parameters(node: Function) -> int:
    """Parameters that a caller fills: without self and cls, *args and **kwargs counted once each.

    Those of a command are options of a command line, which nobody fills in code.
    """
    if any(ast.unparse(one).startswith("app.command") for one in node.decorator_list):
        return 0
    every = node.args
    named = [one.arg for one in [*every.posonlyargs, *every.args, *every.kwonlyargs]]
    return len([name for name in named if name not in ("self", "cls")]) + bool(every.vararg) + bool(every.kwarg)


def test_no_class_has_more_public_methods_than_one_can_keep_in_mind():
    found = classes()
    assert not {name: len(own) for name, (_, own) in found.items() if len(own) > METHODS}
    by_name = {name.rpartition(" ")[2]: value for name, value in found.items()}
    counts = {name: len(whole(name, by_name)) for name in by_name}
    assert counts["Backbone"] == len(found["stages/backbones/core/base.py: Backbone"][1]) > 10
    assert counts["CogVideoX"] > counts["Latent"] > counts["Diffusion"] > counts["Backbone"]
    assert not {name: count for name, count in counts.items() if count > WHOLE}


def test_no_function_has_more_parameters_than_that():
    found = {
        f"{path}: {node.name}": parameters(node)
        for path, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, Function)
    }
    assert len(found) > 1000
    assert not {name: count for name, count in found.items() if count > PARAMETERS}
