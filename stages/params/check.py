"""What a file of params/ may say: schemas, fields, and that the files it names exist."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pydantic
import yaml

from stages.params.load import RESERVED, load_params, method_params, suggestion
from stages.params.source import annotation, class_fields

SCHEMAS = Path(__file__).parent / "schemas"
SETTINGS, CONCEPT = "stages.backbones.core.settings.Settings", "stages.params.concept.Concept"


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


def check_fields(content: Mapping[str, Any], path: str, where: str) -> None:
    """Raises a ValueError when a key is no field of the class at `path`, or its value does not fit the field's type."""
    known = class_fields(path, where)
    for key, value in content.items():
        if key == "class":
            continue
        if key not in known:
            raise ValueError(f"{where}: unknown key {key!r}{suggestion(key, known)}")
        try:
            pydantic.TypeAdapter(annotation(known[key])).validate_python(value)
        except pydantic.ValidationError as error:
            raise ValueError(f"{where}: {key}: {error.errors()[0]['msg']}, got {value!r}") from None


def check_concept(concept: str, root: Path | str) -> None:
    where, content = f"params/concepts/{concept}.yaml", checked("concepts", concept, root)
    check_fields(content, CONCEPT, where)
    for key in ("dataset", "target"):
        if key not in content:
            raise ValueError(f"{where}: the key {key!r} is missing: a study measures the concept on its dataset")


def check_method(method: str, backbone: str, root: Path | str) -> None:
    own, family = checked("methods", method, root), load_params("backbones", backbone, root)["family"]
    if not works_on(own, family):
        have = ", ".join(own["families"])
        raise ValueError(f"{method} works on {have}; {backbone} is of the family {family}")
    where = method if "@" in method else f"params/methods/{method}.yaml"
    plain = {key: value for key, value in own.items() if key not in RESERVED}
    for fields_of in (plain, method_params(method, backbone, root)):  # what an override hides is checked, too
        check_fields(fields_of, own["class"], where)
    for key in ("of", "edit"):  # fields that name another method's file
        if key in own:
            checked("methods", method_params(method, backbone, root)[key], root)


def works_on(method: Mapping[str, Any], family: str) -> bool:
    """Whether a method's file admits backbones of that family."""
    return family in method.get("families", [family])


@cache
def _validator(kind: str) -> jsonschema.Draft202012Validator:
    text = (SCHEMAS / f"{kind}.schema.yaml").read_text(encoding="utf-8")
    return jsonschema.Draft202012Validator(yaml.safe_load(text))
