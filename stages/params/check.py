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

from stages.params.concept import Concept, load_concept, values
from stages.params.contents import WANTED, check_contents
from stages.params.datasets import Split, read_prompts, select
from stages.params.effect import check_effect, settings
from stages.params.layers import layer_of, method_params, untuned
from stages.params.load import (
    RESERVED,
    alike,
    complaint,
    load_params,
    names,
    own_keys,
    suggestion,
)
from stages.params.names import split
from stages.params.pairs import CONCEPT as CONCEPT_NAME
from stages.params.pairs import of_concept
from stages.params.project import located
from stages.params.source import TREE, Field, check_class, class_fields, code, constant, defines
from stages.params.types import OnDisk, paths

SCHEMAS = Path(__file__).parent / "schemas"
SETTINGS, CONCEPT = "stages.backbones.core.settings.Settings", "stages.params.concept.Concept"
METRIC = "stages.metrics.base.Metric"
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


def check_method(name: str, root: Path | str = "params") -> dict[str, Any]:
    """A method's content; ValueError for anything in its file that does not exist, on any backbone."""
    where, content = name if "@" in name else f"params/methods/{name}.yaml", checked("methods", name, root)
    if "backbones" in content:
        raise ValueError(
            f"{where}: backbones: what differs on a small world stands in params/tuned/{split(name)[0]}.yaml by "
            f"world and architecture, on a finished checkpoint in params/adapted/{split(name)[0]}.yaml by its name"
        )
    own = {key: value for key, value in content.items() if key not in RESERVED}
    path, tree = content["class"], tree_of(root)
    check_fields(own, path, where, root)
    check_effect(path, own, _own(own, "methods", name, root), where, tree=tree)
    check_names(content, "families", families(root), where)
    check_names(content, "checkpoints", families(root), where)
    check_names(content, "concepts", names("concepts", root), where)
    check_names(content, "refuses", names("backbones", root), where)
    return content


def check_names(content: Mapping[str, Any], key: str, have: Sequence[str], where: str) -> None:
    """Raises a ValueError for a name under `key` that is none of those there are."""
    for name in content.get(key) or ():
        if name not in have:
            raise ValueError(f"{where}: {key}: no {ONE[key]} {name!r}{suggestion(str(name), have)}")


ONE = {"families": "family", "checkpoints": "family", "concepts": "concept", "refuses": "backbone"}


def check_method_on(method: str, backbone: str, root: Path | str = "params", kind: str = "") -> None:
    """Raises a ValueError when a method cannot work on a backbone, or its fields there are wrong."""
    own, about = load_params("methods", method, root), load_params("backbones", backbone, root)
    if not works_on(own, about["family"]):
        have = ", ".join(own["families"])
        raise ValueError(f"{method} works on {have}; {backbone} is of the family {about['family']}")
    if reason := refusal(own, backbone, root):
        raise ValueError(f"{method} cannot work on {backbone}: {reason}")
    check_world(method, backbone, root)
    where = method if "@" in method else f"params/methods/{method}.yaml"
    resolved = method_params(method, backbone, root, kind)
    check_fields(resolved, own["class"], where, root)
    check_effect(own["class"], resolved, split(method)[1], where, family=about["family"], tree=tree_of(root))


def check_world(method: str, backbone: str, root: Path | str = "params") -> None:
    """Raises a ValueError for settings tuned to the small worlds on a finished checkpoint, with those for one.

    Not if there are fields for that very backbone in params/adapted/: then it was meant. Nor for the reverse, which
    costs minutes and may be what a study asks about.
    """
    own, about = load_params("methods", method, root), load_params("backbones", backbone, root)
    if not own.get("world") or about.get("world") or backbone in layer_of("adapted", "methods", split(method)[0], root):
        return
    files = {name: _readable("methods", name, root) for name in names("methods", root)}
    fit = [
        name
        for name, other in files.items()
        if other.get("class") == own["class"] and not other.get("world") and works_on(other, about["family"])
    ]
    raise ValueError(
        f"{method} has settings for the small worlds (world: true) and {backbone} is a finished checkpoint; "
        f"for it: {', '.join(fit) or f'none; write a file that is like: {method}, with world: false'}"
    )


def check_attack(name: str, root: Path | str = "params") -> dict[str, Any]:
    """An attack's content; ValueError for anything in its file that does not exist."""
    where, content = f"params/attacks/{name}.yaml", checked("attacks", name, root)
    own = {key: value for key, value in content.items() if key != "families"}
    check_fields(own, content["class"], where, root)
    check_effect(content["class"], own, _own(own, "attacks", name, root), where, tree=tree_of(root))
    check_names(content, "families", families(root), where)
    return content


def check_gate(attack: str, method: str, backbone: str, root: Path | str = "params") -> None:
    """Raises a ValueError when an attack on gates is to attack a method that has none on that backbone."""
    tree = tree_of(root)
    if not constant(load_params("attacks", attack, root)["class"], "GATED", tree) or gated(method, backbone, root):
        return
    have = ", ".join(name for name in names("methods", root) if gated(name, backbone, root))
    raise ValueError(
        f"{attack} attacks the gate of a method, and {method} has none on {backbone}; put it into a cell of methods "
        f"that have one ({have}), or choose another attack, such as unlearndiffatk"
    )


def gated(method: str, backbone: str, root: Path | str = "params") -> bool:
    """Whether a method has a gate on a backbone: its class says `GATE`, "always" or a field, `none` or 0 without.

    One that is not tuned for the backbone has none there.
    """
    if untuned("methods", method, backbone, root):
        return False
    content = method_params(method, backbone, root)
    gate = constant(content["class"], "GATE", tree_of(root))
    if not gate or gate == "always":
        return bool(gate)
    return settings(content["class"], content, tree_of(root))[gate] not in ("none", 0)


def check_metric(name: str, root: Path | str = "params") -> dict[str, Any]:
    """A metric's content; ValueError for anything in its file that does not exist."""
    where, content = f"params/metrics/{name}.yaml", checked("metrics", name, root)
    check_fields(content, content["class"], where, root)
    return content


def check_metric_for(metric: str, concept: Concept, backbone: str, root: Path | str = "params") -> None:
    """Raises a ValueError when a metric cannot judge a concept's pictures by a backbone.

    Metrics say what they can in class constants (stages/metrics/base.py): WORLDS, LABELS, CHOICES, NEEDED.
    """
    where, content = f"params/metrics/{metric}.yaml", load_params("metrics", metric, root)
    tree, about = tree_of(root), load_params("backbones", backbone, root)
    worlds, labels = (constant(content["class"], name, tree) for name in ("WORLDS", "LABELS"))
    if worlds and about.get("world") not in worlds:
        others = [name for name in names("metrics", root) if not _worlds_of_metric(name, root)]
        drawn = f"draws the world {about['world']}" if about.get("world") else "is a finished checkpoint"
        raise ValueError(
            f"{metric} judges small worlds alone ({', '.join(worlds)}); {backbone} {drawn}; for it: {', '.join(others)}"
        )
    for key, what in (constant(content["class"], "NEEDED", tree) or {}).items():
        if not any(content.get(one) for one in key.split(" or ")):
            raise ValueError(f"{where}: {key} is empty; name there {what}, or copy the file and name it in the copy")
    labels = labels and labels.get(about.get("world"))
    choices = _choices(content, where, tree)
    for label, value in [(label, value) for label, wanted in concept.target.items() for value in values(wanted)]:
        if labels and label not in labels:
            raise ValueError(
                f"{where}: it cannot judge the label {label!r}, which the target of "
                f"params/concepts/{concept.name}.yaml asks for{suggestion(label, labels)}"
            )
        if choices is not None and value not in choices.get(label, ()):
            have = "; ".join(f"{key}: {', '.join(map(str, values))}" for key, values in choices.items()) or "none"
            raise ValueError(
                f"{where}: {constant(content['class'], 'CHOICES', tree)}: no {label} {value!r}, which the target of "
                f"params/concepts/{concept.name}.yaml asks for; have {have}"
            )


def sees(metric: str, root: Path | str = "params") -> bool:
    """Whether a metric says of each sample whether it shows the concept."""
    return defines(load_params("metrics", metric, root)["class"], "seen", METRIC, tree_of(root))


def works_on(content: Mapping[str, Any], family: str) -> bool:
    """Whether a method's or an attack's file admits backbones of that family."""
    return family in content.get("families", [family])


def refusal(content: Mapping[str, Any], backbone: str, root: Path | str = "params") -> str | None:
    """Why a method's file says that it cannot work on a backbone, or on one that this is like; None if it does not."""
    reasons = content.get("refuses") or {}
    about = load_params("backbones", backbone, root)
    meant = content.get("checkpoints", [about["family"]])
    if not about.get("world") and about["family"] not in meant:
        return (
            f"its settings are for checkpoints of {', '.join(meant)}, and the family of this one is {about['family']}"
        )
    return next((str(reasons[name]) for name in alike(backbone, root) if name in reasons), None)


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


def _choices(content: Mapping[str, Any], where: str, tree: Path) -> Mapping[str, Sequence[str]] | None:
    """What a metric can tell apart, by label; None if it does not say."""
    key = constant(content["class"], "CHOICES", tree)
    if not key:
        return None
    known = class_fields(content["class"], where, tree)
    given = content.get(key, known[key].default) or {}
    if isinstance(given, Mapping):
        return given
    return {content.get("label", known["label"].default): given}


def _worlds_of_metric(name: str, root: Path | str) -> Sequence[str] | None:
    """The worlds that a metric is bound to; a broken file counts as bound, so that it is not proposed."""
    try:
        return constant(load_params("metrics", name, root)["class"], "WORLDS", tree_of(root))
    except (ValueError, KeyError):
        return ("unreadable",)


def _own(content: Mapping[str, Any], kind: str, name: str, root: Path | str) -> list[str]:
    """The keys of a content that its own file says, in the file's order."""
    own = own_keys(kind, name, root)
    return [key for key in content if key in own]


def _readable(kind: str, name: str, root: Path | str) -> dict[str, Any]:
    """A file's content; {} if it cannot be read: a broken file stops only the studies that name it."""
    try:
        return load_params(kind, name, root)
    except ValueError:
        return {}


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
