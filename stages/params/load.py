"""YAML under params/ to objects: names checked, keys checked, values checked, every error one line.

A relative `root` is a folder of the project, see stages.params.project.
"""

from __future__ import annotations

import copy
import dataclasses
import difflib
import functools
import importlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from stages.params.names import SUFFIX, split
from stages.params.plugins import plugins
from stages.params.project import HOME, located

if TYPE_CHECKING:
    from pydantic import ValidationError

KINDS = ("studies", "backbones", "methods", "concepts", "attacks", "metrics")
# Keys of a method's or an attack's file that are no fields of its class.
RESERVED = ("class", "trained", "families", "concepts", "aim", "world", "refuses", "checkpoints")
SOURCE = "_paper"  # ended the names of what a plain name is now
RENAMED = {"closed_gate_paper": "closed_gate_long"}  # others whose names changed
NAME = re.compile(r"[a-z0-9][a-z0-9_-]*(\.[a-z0-9_-]+)*")
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the compiled one reads ten times as fast


def names(kind: str, root: Path | str = "params") -> list[str]:
    """The names of all files of a kind, and of what other packages have of it, sorted."""
    files = (path.stem for path in (located(root) / kind).glob("*.yaml"))
    return sorted({*files, *plugins().get(kind, {})})


def load_params(kind: str, name: str, root: Path | str = "params") -> dict[str, Any]:
    """The content of params/<kind>/<name>.yaml, of a variant its method's file; ValueError says what was wrong.

    A file may be `like` another one, which it changes by its own keys; maps are joined key by key.
    """
    contents = [content for _, content in chain(kind, name, root)]
    return functools.reduce(joined, reversed(contents))


def own_keys(kind: str, name: str, root: Path | str = "params") -> set[str]:
    """The keys that a file says itself, without those of the file that it is `like`."""
    return set(next(chain(kind, name, root))[1])


def chain(kind: str, name: str, root: Path | str) -> Iterator[tuple[str, dict[str, Any]]]:
    """A file's name and its own keys, then those of the file that it is `like`, and so on; ValueError for a circle."""
    paths: list[Path] = []
    next_one: str | None = split(check_name(name, kind[:-1]))[0] if kind == "methods" else name
    while next_one is not None:
        try:
            path, content = _read(kind, next_one, root)
        except ValueError as error:
            raise ValueError(f"{paths[-1]}: like: {error}" if paths else str(error)) from None
        if path in paths:
            raise ValueError(f"{paths[-1]}: like: {next_one} is itself like this one")
        paths.append(path)
        other = content.pop("like", None)
        yield next_one, content
        next_one = other


def _read(kind: str, name: str, root: Path | str) -> tuple[Path, dict[str, Any]]:
    singular = {"studies": "study", "prompts": "source of prompts"}.get(kind, kind.rstrip("s"))
    path = located(root) / kind / f"{check_name(name, singular)}.yaml"
    plugin = plugins().get(kind, {}).get(name)
    if plugin is not None and not path.is_file():
        return Path(plugin.package, name), plugin.content()
    if not path.is_file():
        _check_old(kind, name, root)
        raise ValueError(f"no {singular} {name!r}{suggestion(name, names(kind, root))}{_elsewhere(root)}")
    return path, read_file(path)


def read_file(path: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds; ValueError names the file that holds none."""
    written = path.stat()
    return copy.deepcopy(_parsed(path, written.st_mtime_ns, written.st_size))


@functools.lru_cache(maxsize=1024)
def _parsed(path: Path, _written: int, _size: int) -> dict[str, Any]:
    """The content of a file as it was at that time: a study reads the same files thousands of times."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8-sig"), LOADER)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a mapping of keys, got {type(content).__name__}")
    return content


def _check_old(kind: str, name: str, root: Path | str) -> None:
    """Raises a ValueError for a name that a thing had before, with the one that it has now."""
    now = RENAMED.get(name, name.removesuffix(SOURCE))
    if now != name and now in names(kind, root):
        raise ValueError(f"`{name}` is `{now}` now")


def _elsewhere(root: Path | str) -> str:
    """What to do if there is no folder of params at all: nobody who is in the wrong folder misspelt a name."""
    if located(root).is_dir():
        return ""
    return f"; there is no folder {located(root).absolute()}: set {HOME} to a project, or make one: palimpsest init"


def joined(other: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """A file's own keys over those of the one that it is `like`; maps are joined key by key."""
    both = {key for key in own if isinstance(own[key], dict) and isinstance(other.get(key), dict)}
    return other | own | {key: other[key] | own[key] for key in both}


def check_name(name: str, what: str) -> str:
    """`name` itself when it is safe as a path component; ValueError otherwise."""
    pattern = NAME.pattern + (SUFFIX.pattern if what == "method" else "")
    if not isinstance(name, str) or not re.fullmatch(pattern, name):
        raise ValueError(f"{what} name {name!r} must be lower-case letters, digits, '-', '_' and '.'")
    return name


def suggestion(name: str, have: Iterable[str]) -> str:
    """`; did you mean esd? have: circuit_breaker, esd`."""
    have = sorted(have)
    near = difflib.get_close_matches(name, have, n=1)
    return f"{f'; did you mean {near[0]}?' if near else ';'} have: {', '.join(have) or 'none'}"


def metric_params(name: str, backbone: str, root: Path | str = "params") -> dict[str, Any]:
    """A metric's fields for the samples of a backbone: `{world}` in them is the world that it was trained on."""
    content, world = load_params("metrics", name, root), load_params("backbones", backbone, root).get("world", "")
    return {
        key: value.replace("{world}", world) if isinstance(value, str) and world else value
        for key, value in content.items()
    }


def alike(backbone: str, root: Path | str = "params") -> Iterator[str]:
    """A backbone, the one that its file is `like`, and so on; nothing if it has no file."""
    if (located(root) / "backbones" / f"{backbone}.yaml").is_file():
        yield from (name for name, _ in chain("backbones", backbone, root))


def resolve_class(path: str, where: str) -> type:
    """The class at a dotted import path; ValueError names the file that asks for it."""
    module, _, name = str(path).rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"{where}: cannot import class {path!r}: {error}") from None


def build(content: Mapping[str, Any], where: str) -> Any:
    """An object from a mapping: `class` names it by import path, the other keys are its fields."""
    if "class" not in content:
        raise ValueError(f"{where}: the key 'class' is missing")
    fields = {key: value for key, value in content.items() if key != "class"}
    return construct(resolve_class(content["class"], where), fields, where)


def construct(cls: type, fields: Mapping[str, Any], where: str) -> Any:
    """A dataclass from its fields, types and limits checked; ValueError names the file, the key and the nearest."""
    from pydantic import TypeAdapter, ValidationError

    known = [field.name for field in dataclasses.fields(cls) if field.init]
    for key in fields:
        if key not in known:
            raise ValueError(f"{where}: unknown key {key!r}{suggestion(str(key), known)}")
    try:
        return TypeAdapter(cls).validate_python(dict(fields))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"] if not re.search(r"[\[\]]", str(part))) or cls.__name__
        raise ValueError(f"{where}: {key}: {complaint(error)}") from None


def complaint(error: ValidationError) -> str:
    """What pydantic finds wrong with the first field that is, in one line: all that a union takes, and what it got."""
    errors = error.errors()
    first = errors[0]
    if first["type"] == "missing":
        return str(first["msg"])
    same = [other for other in errors if other["input"] is first["input"]]
    words = [word for other in same for word in re.findall(r"'([^']*)'", str(other.get("ctx", {}).get("expected", "")))]
    if len(words) > 1 and all(other["type"] == "literal_error" for other in same):
        allowed = ", ".join(map(repr, words[:-1])) + f" or {words[-1]!r}"
        near = difflib.get_close_matches(str(first["input"]), words, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        return f"Input should be {allowed}, got {first['input']!r}{hint}"
    said = " or ".join(dict.fromkeys(str(other["msg"]) for other in same))
    return f"{said}, got {first['input']!r}"


def canonical(content: Mapping[str, Any], *, without: tuple[str, ...] = ()) -> str:
    """A mapping as canonical JSON: equal for equal parameters, whatever their order and the comments in the file."""
    return json.dumps({key: value for key, value in content.items() if key not in without}, sort_keys=True)
