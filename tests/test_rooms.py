"""The floors of the house: what imports what, read from the source, imports for types alone included."""

import ast
from collections.abc import Iterator
from functools import cache

import pytest

from tests import ROOT

FLOORS = (  # lowest first: a room imports those before it, and itself
    "launch",
    "seeds",
    "params",
    "store",
    "objectives",
    "control",
    "training",
    "worlds",
    "backbones",
    "reading",
    "interventions",
    "documented",
    "methods",
    "attacks",
    "metrics",
    "tuning",
    "reporting",
    "door",
)


@cache
def modules() -> dict[str, frozenset[str]]:
    """Every module of `stages` and `Infinity`, and the modules of theirs that it imports."""
    paths = [path for package in ("stages", "Infinity") for path in sorted((ROOT / package).rglob("*.py"))]
    trees = {dotted(path): (path.name == "__init__.py", ast.parse(path.read_text())) for path in paths}
    return {
        name: frozenset(found for found in imported(name, package, tree, set(trees)) if found != name)
        for name, (package, tree) in trees.items()
    }


def dotted(path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(name: str, package: bool, tree: ast.Module, known: set[str]) -> Iterator[str]:
    """The known modules that a module's imports name, wherever in it they stand."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom):
            parts = name.split(".")
            above = parts[: len(parts) - node.level + package] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            targets = [f"{base}.{alias.name}" for alias in node.names]
            yield from (target if target in known else base for target in targets if {target, base} & known)


def room(name: str) -> str:
    """The room of a module; an entry's is its own name, that of `stages` itself is empty."""
    return name.partition(".")[2].partition(".")[0]


def rooms() -> list[tuple[str, str]]:
    """Every import between modules of `stages`."""
    return [
        (name, target)
        for name, targets in modules().items()
        for target in sorted(targets)
        if name.startswith("stages") and target.startswith("stages")
    ]


def test_every_folder_of_the_house_has_a_floor():
    folders = {path.name for path in (ROOT / "stages").iterdir() if (path / "__init__.py").is_file()}
    assert folders | {"seeds"} == set(FLOORS)


@pytest.mark.parametrize("above", FLOORS)
def test_a_room_imports_no_higher_one(above):
    higher = set(FLOORS[FLOORS.index(above) + 1 :])
    assert not [f"{name} -> {target}" for name, target in rooms() if room(name) == above and room(target) in higher]


def test_rooms_alone_are_imported_and_every_one_is():
    """No entry, nor the package itself."""
    assert not [f"{name} -> {target}" for name, target in rooms() if room(target) not in FLOORS]
    assert {room(target) for name, target in rooms() if room(name) != room(target)} | {"seeds"} == set(FLOORS)


def test_infinity_knows_nothing_of_the_house():
    own = {name: targets for name, targets in modules().items() if name.startswith("Infinity")}
    assert not [f"{name} -> {target}" for name, targets in own.items() for target in targets if "stages" in target]


def test_no_module_imports_itself_by_way_of_others():
    assert not circles(modules())


def circles(graph: dict[str, frozenset[str]]) -> list[str]:
    """The modules that a walk along imports leaves and comes back to: those that are left once all others are taken
    whose imports are taken already.
    """
    left = dict(graph)
    while done := [name for name, targets in left.items() if not targets & left.keys()]:
        for name in done:
            del left[name]
    return sorted(left)


def test_a_circle_is_found():
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}
    assert circles({name: frozenset(targets) for name, targets in graph.items()}) == ["a", "b", "c"]
