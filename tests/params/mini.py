"""A small study `mini` in a copy of params/, and changes of its files."""

from pathlib import Path

import pytest
import yaml

from stages.params.study import load_study

STUDY = {
    "cells": [{"backbones": ["sd-shapes"], "concepts": ["red"], "methods": ["none", "esd"]}],
    "seeds": [0, 1],
    "prompts": {"concept": 8, "retain": 8},
    "metrics": ["rates"],
}


def write(params: Path, name: str, content: dict) -> None:
    (params / f"{name}.yaml").write_text(yaml.safe_dump(content))


def change(params: Path, name: str, **keys: object) -> None:
    write(params, name, yaml.safe_load((params / f"{name}.yaml").read_text()) | keys)


def study(params: Path, metrics: list[str] | None = None, **cell: object) -> None:
    write(params, "studies/mini", STUDY | {"cells": [STUDY["cells"][0] | cell], "metrics": metrics or ["rates"]})


def refusal(params: Path) -> str:
    """The one line that `mini` is refused with."""
    with pytest.raises(ValueError) as caught:
        load_study("mini", params)
    assert "\n" not in str(caught.value)
    return str(caught.value)
