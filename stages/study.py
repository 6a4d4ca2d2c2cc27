"""What a study asks for, checked before anything runs: its runs, and the resolved parameters of every stage.

Read by the Snakefile at parse time, so nothing here imports torch: classes are read as source, not imported.
"""

from __future__ import annotations

import ast
import builtins
import hashlib
import json
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import jsonschema
import pydantic
import yaml

from stages import fields
from stages.params import RESERVED as NO_FIELDS
from stages.params import check_name, load_params, method_params, names, suggestion
from stages.variants import sweep

SCHEMAS = Path(__file__).parents[1] / "workflow" / "schemas"
SETTINGS, CONCEPT = "stages.backbones.settings.Settings", "stages.concept.Concept"
RESERVED = ("backbones", "bench", "prompts", "figures", "report", "tables", "worlds")  # other folders of artifacts/


@dataclass(frozen=True, order=True)
class Run:
    """One fitted method: the unit of training, sampling and measuring."""

    backbone: str
    concept: str
    method: str
    seed: int


@dataclass(frozen=True)
class Study:
    """A checked study: its runs in the order of its file, how many prompts it samples and what it measures."""

    name: str
    runs: tuple[Run, ...]
    prompts: Mapping[str, int]
    metrics: tuple[str, ...]
    attacks: Mapping[Run, tuple[str, ...]] = field(default_factory=dict)  # what looks for the concept in a run

    def unique(self, *parts: str) -> list[tuple[Any, ...]]:
        """The distinct combinations of the named parts of a run: `unique("backbone", "concept")`."""
        return list(dict.fromkeys(tuple(getattr(run, part) for part in parts) for run in self.runs))


def load_study(name: str, root: Path | str = "params") -> Study:
    """The study of params/studies/<name>.yaml and everything it names; ValueError says what is wrong and where."""
    content = checked("studies", name, root)
    runs = expand(content, root)
    study = Study(name, tuple(runs), content["prompts"], tuple(content["metrics"]), runs)
    for (backbone,) in study.unique("backbone"):
        if check_name(backbone, "backbone") in RESERVED:
            raise ValueError(f"params/backbones/{backbone}.yaml: the name is taken by a folder of artifacts/")
        check_fields(checked("backbones", backbone, root), SETTINGS, f"params/backbones/{backbone}.yaml")
    for (concept,) in study.unique("concept"):
        _check_concept(concept, root)
    for concept, method in study.unique("concept", "method"):
        aim, own = load_params("concepts", concept, root).get("aim", "erase"), load_params("methods", method, root)
        if own.get("aim", aim) != aim:
            raise ValueError(f"{method} is for concepts to {own['aim']}; the aim of {concept} is to {aim}")
    for backbone, method in study.unique("backbone", "method"):
        _check_method(method, backbone, root)
    attacks = dict.fromkeys(attack for attacks in study.attacks.values() for attack in attacks)
    for kind, used in {"attacks": attacks, "metrics": study.metrics}.items():
        for name in used:
            content = checked(kind, name, root)
            check_fields(content, content["class"], f"params/{kind}/{name}.yaml")
    return study


def _check_concept(concept: str, root: Path | str) -> None:
    where, content = f"params/concepts/{concept}.yaml", checked("concepts", concept, root)
    check_fields(content, CONCEPT, where)
    for key in ("dataset", "target"):
        if key not in content:
            raise ValueError(f"{where}: the key {key!r} is missing: a study measures the concept on its dataset")


def _check_method(method: str, backbone: str, root: Path | str) -> None:
    own, family = checked("methods", method, root), load_params("backbones", backbone, root)["family"]
    if not works_on(own, family):
        have = ", ".join(own["families"])
        raise ValueError(f"{method} works on {have}; {backbone} is of the family {family}")
    where = method if "@" in method else f"params/methods/{method}.yaml"
    plain = {key: value for key, value in own.items() if key not in NO_FIELDS}
    for fields_of in (plain, method_params(method, backbone, root)):  # what an override hides is checked, too
        check_fields(fields_of, own["class"], where)
    for key in ("of", "edit"):  # fields that name another method's file
        if key in own:
            checked("methods", method_params(method, backbone, root)[key], root)


def expand(content: Mapping[str, Any], root: Path | str = "params") -> dict[Run, tuple[str, ...]]:
    """The runs of a study's file in its order, each with its attacks.

    A cell's runs are its lists and its sweep times its seeds, or the study's; a run of two cells has both's attacks.
    """
    runs: dict[Run, tuple[str, ...]] = {}
    for cell in content["cells"]:
        for backbone, concept in product(cell["backbones"], cell["concepts"]):
            every = cell["methods"] == "all"
            methods = fitting(backbone, concept, root) if every else cell["methods"]
            methods = [*methods, *(sweep(**cell["sweep"]) if "sweep" in cell else [])]
            for values in product(methods, cell.get("seeds", content["seeds"])):
                run = Run(backbone, concept, *values)
                runs[run] = tuple(dict.fromkeys([*runs.get(run, ()), *cell.get("attacks", [])]))
    return runs


def fitting(backbone: str, concept: str, root: Path | str = "params") -> list[str]:
    """The methods that make sense on a backbone for a concept: their files say so."""
    about, aim = checked("backbones", backbone, root), checked("concepts", concept, root).get("aim", "erase")
    here, found = bool(about.get("world")), []
    for name in names("methods", root):
        own = load_params("methods", name, root)
        meant = concept in own.get("concepts", [concept]) and own.get("world", here) == here
        if meant and works_on(own, about["family"]) and own.get("aim", aim) == aim:
            found.append(name)
    return found


def works_on(method: Mapping[str, Any], family: str) -> bool:
    """Whether a method's file admits backbones of that family."""
    return family in method.get("families", [family])


def checked(kind: str, name: str, root: Path | str = "params") -> dict[str, Any]:
    """The content of params/<kind>/<name>.yaml, valid by its schema; ValueError names the file and the key."""
    content = load_params(kind, name, root)
    check_schema(content, kind, f"params/{kind}/{name}.yaml")
    return content


def check_schema(content: Mapping[str, Any], kind: str, where: str) -> None:
    """Raises a ValueError of one line when the content does not fit workflow/schemas/<kind>.schema.yaml."""
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


def check_fields(content: Mapping[str, Any], path: str, where: str) -> None:
    """Raises a ValueError when a key is no field of the class at `path`, or its value does not fit the field's type."""
    known = class_fields(path, where)
    for key, value in content.items():
        if key == "class":
            continue
        if key not in known:
            raise ValueError(f"{where}: unknown key {key!r}{suggestion(key, known)}")
        try:
            pydantic.TypeAdapter(_annotation(known[key])).validate_python(value)
        except pydantic.ValidationError as error:
            raise ValueError(f"{where}: {key}: {error.errors()[0]['msg']}, got {value!r}") from None


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


def frozen(content: Mapping[str, Any], *, without: tuple[str, ...] = ()) -> str:
    """A mapping as canonical JSON: equal for equal parameters, whatever their order and the comments in the file."""
    return json.dumps({key: value for key, value in content.items() if key not in without}, sort_keys=True)


def _annotation(source: str) -> Any:
    """The type an annotation stands for, or Any when it names something that is not a plain or constrained type."""
    try:
        return eval(source, {"__builtins__": vars(builtins)} | vars(typing) | vars(fields))
    except NameError:
        return Any


def _source(path: str) -> Path:
    return Path(*path.split(".")[:-1]).with_suffix(".py")


def _module(path: str, where: str) -> ast.Module:
    source = Path(__file__).parents[1] / _source(path)
    if not path.startswith("stages.") or not source.is_file():
        raise ValueError(f"{where}: class: no module {_source(path)} for {path!r}")
    return ast.parse(source.read_text(encoding="utf-8"))


@cache
def _validator(kind: str) -> jsonschema.Draft202012Validator:
    text = (SCHEMAS / f"{kind}.schema.yaml").read_text(encoding="utf-8")
    return jsonschema.Draft202012Validator(yaml.safe_load(text))
