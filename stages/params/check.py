"""What a file of params/ may say: schemas, fields, and that everything it names exists."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pydantic
import yaml

from stages.params.concept import Concept, load_concept
from stages.params.contents import WANTED, check_contents
from stages.params.datasets import Split, read_prompts, select
from stages.params.load import (
    complaint,
    load_params,
    suggestion,
)
from stages.params.modules import TREE
from stages.params.oracles import check_oracle
from stages.params.pairs import CONCEPT as CONCEPT_NAME
from stages.params.pairs import of_concept
from stages.params.project import located
from stages.params.source import Field, check_class, class_fields, code
from stages.params.types import OnDisk, paths

SCHEMAS = Path(__file__).parent / "schemas"
SETTINGS, CONCEPT = "stages.backbones.core.settings.Settings", "stages.params.concept.Concept"
MADE_HERE = "artifacts/"  # what jobs write: such a path need not exist yet


def checked(kind: str, name: str, root: Path | str = "params") -> dict[str, Any]:
    """The content of params/<kind>/<name>.yaml, valid by its schema; ValueError names the file and the key."""
    content = load_params(kind, name, root)
    check_schema(content, kind, f"params/{kind}/{name}.yaml")
    return content


def check_schema(content: Mapping[str, Any], kind: str, where: str) -> None:
    """Raises a ValueError of one line when the content does not fit schemas/<kind>.schema.yaml."""
    errors = list(_validator(kind).iter_errors(content))
    unknown = [error for error in errors if error.validator == "additionalProperties"]
    error = jsonschema.exceptions.best_match(unknown or errors)  # a misspelt key may also be a missing one
    if error is None:
        return
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path).lstrip(".")
    if error.validator == "additionalProperties":
        known = list(error.schema["properties"])
        key = next(key for key in error.instance if key not in known)
        raise ValueError(f"{where}: unknown key {key!r}{f' in {place}' if place else ''}{suggestion(str(key), known)}")
    raise ValueError(f"{where}: {f'{place}: ' if place else ''}{error.message}")


def check_fields(
    content: Mapping[str, Any], path: str, where: str, root: Path | str = "params", *, whole: bool = True
) -> None:
    """Raises a ValueError for a key that is no field of the class at `path`, a value of another type, a missing file or
    one that holds something else.

    `whole` content has a value for each field without a default; overrides need not. Paths with `{concept}` in them
    are left to `stages.params.learning`.
    """
    tree = tree_of(root)
    known = class_fields(path, where, tree)
    for key, value in content.items():
        if key == "class":
            continue
        if key not in known:
            raise ValueError(f"{where}: unknown key {key!r}{suggestion(str(key), known)}")
        try:
            _adapter(known[key]).validate_python(value)
        except pydantic.ValidationError as error:
            raise ValueError(f"{where}: {key}: {complaint(error)}") from None
        for name, mark in paths(known[key].type, value):
            if CONCEPT_NAME not in name:
                check_path(name, mark, f"{where}: {key}", root)
    missing = [key for key, field in known.items() if whole and field.required and key not in content]
    if missing:
        raise ValueError(f"{where}: the key {missing[0]!r} is missing")


def check_path(name: str, mark: OnDisk, where: str, root: Path | str = "params") -> None:
    """Raises a ValueError with the nearest name when there is no such file or folder, and no job makes it; or that says
    what it should hold.
    """
    found = find_path(name, root)
    if name.startswith(MADE_HERE):
        return
    if found.is_file() if mark.kind == "file" else found.is_dir():
        try:
            return check_contents(found, mark.holds)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
    have = [path.name for folder in (beside(name, root), located(name)) for path in folder.parent.glob("*")]
    near = difflib.get_close_matches(found.name, sorted(have), n=1)
    hint = f"; did you mean {Path(name).parent / near[0]}?" if near else ""
    wanted = f"; wanted is {WANTED[mark.holds]}" if mark.holds else ""
    raise ValueError(f"{where}: no {mark.kind} {name!r}{hint}{wanted}")


def find_path(name: str, root: Path | str = "params") -> Path:
    """Where a path in a file of params lies: beside params/, else in the project."""
    here = beside(name, root)
    return here if here.exists() else located(name)


def beside(name: str, root: Path | str) -> Path:
    """A path from the folder that holds params/."""
    return located(root).parent / name


def check_backbone(name: str, root: Path | str = "params") -> dict[str, Any]:
    """A backbone's content; ValueError for a class, a family or a field that does not exist."""
    where, content = f"params/backbones/{name}.yaml", checked("backbones", name, root)
    path, family = content["class"], content["family"]
    check_class(path, where, tree_of(root))
    have, module = families(root), path.split(".")[2]
    if family not in have:
        raise ValueError(f"{where}: family: no family {family!r}{suggestion(family, have)}")
    if module in have and family != module:
        raise ValueError(f"{where}: family: {path} is of the family {module}, got {family!r}")
    check_fields(content, SETTINGS, where, root)
    check_oracle(content, where, root)
    return content


def families(root: Path | str = "params") -> tuple[str, ...]:
    """The families of backbones: a file of stages/backbones/ each."""
    stems = (path.stem for path in (tree_of(root) / "stages" / "backbones").glob("*.py"))
    return tuple(sorted(stem for stem in stems if stem not in ("__init__", "from_scratch")))


def check_concept(name: str, sets: Sequence[str], root: Path | str = "params", split: Split = "test") -> Concept:
    """The concept; ValueError for a wrong field, or a dataset that lacks a column, the target or a set of prompts."""
    where, content = f"params/concepts/{name}.yaml", checked("concepts", name, root)
    for key in ("dataset", "target"):
        if key not in content:
            raise ValueError(f"{where}: the key {key!r} is missing: a study measures the concept on its dataset")
    check_fields({"name": name} | content, CONCEPT, where, root)
    concept = load_concept(name, root)
    check_path(concept.dataset, OnDisk("file"), f"{where}: dataset", root)
    table = prompt_table(find_path(concept.dataset, root))
    for which in sets:
        try:
            empty = select(table, concept.target, which, split).empty
        except ValueError as error:
            raise ValueError(f"{where}: {concept.dataset}: {error}") from None
        if empty:
            more = "; give rows of it split: tune" if split == "tune" else ""
            raise ValueError(f"{where}: {concept.dataset}: no {which} prompts for {concept.target} to {split} on{more}")
    return concept


def check_names(content: Mapping[str, Any], key: str, have: Sequence[str], where: str) -> None:
    """Raises a ValueError for a name under `key` that is none of those there are."""
    for name in content.get(key) or ():
        if name not in have:
            raise ValueError(f"{where}: {key}: no {ONE[key]} {name!r}{suggestion(str(name), have)}")


ONE = {"families": "family", "checkpoints": "family", "concepts": "concept", "refuses": "backbone"}


def watched(content: Mapping[str, Any], root: Path | str = "params", *, concept: str = "") -> list[str]:
    """The files that a thing's fields name (pictures, prompts, weights), and those in folders that they name, for a
    concept of that name.

    Not what lies under artifacts/: a job makes it.
    """
    known, files = class_fields(content["class"], content["class"], tree_of(root)), []
    for key, value in content.items():
        for name, _ in paths(known[key].type, value) if key in known else ():
            found = find_path(of_concept(name, concept), root)
            if not name.startswith(MADE_HERE):
                files += [path for path in (found.rglob("*") if found.is_dir() else [found]) if path.is_file()]
    return sorted(map(str, files))


def digest_of(content: Mapping[str, Any], root: Path | str = "params") -> str:
    """A digest of the code behind a method, an attack or a metric."""
    return code(content["class"], tree_of(root))


def tree_of(root: Path | str = "params") -> Path:
    """The folder whose code a folder of params is checked against: the clone it lies in, else the installed package."""
    clone = located(root).absolute().parent
    return clone if (clone / "stages" / "methods").is_dir() else TREE


def prompt_table(path: Path) -> Any:
    """The rows of a dataset, read once for each time that it is written; errors as of `read_prompts`."""
    if not path.is_file():
        return read_prompts(path)  # says what is missing
    written = path.stat()
    return _read_table(path, written.st_mtime_ns, written.st_size)


@cache
def _read_table(path: Path, _written: int, _size: int) -> Any:
    return read_prompts(path)


def _adapter(field: Field) -> pydantic.TypeAdapter[Any]:
    if field.type not in ADAPTERS:
        ADAPTERS[field.type] = pydantic.TypeAdapter(field.type)
    return ADAPTERS[field.type]


ADAPTERS: dict[Any, pydantic.TypeAdapter[Any]] = {}  # a validator takes a millisecond to build, and types are few


@cache
def _validator(kind: str) -> jsonschema.Draft202012Validator:
    text = (SCHEMAS / f"{kind}.schema.yaml").read_text(encoding="utf-8")
    return jsonschema.Draft202012Validator(yaml.safe_load(text))
