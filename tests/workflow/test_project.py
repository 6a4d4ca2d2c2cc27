"""pyproject.toml, requirements.lock and environment.yml agree, and every package the code imports is asked for."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINNED = ("workflow", "slurm", "test", "text", "tune")  # the extras that the lock file holds
IMPORTED_AS = {"PIL": "pillow", "yaml": "pyyaml", "annotated_types": "annotated-types"}


def pins() -> dict[str, str]:
    lines = (ROOT / "requirements.lock").read_text().split()
    return {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}


def test_a_pin_is_a_name_and_a_version_and_none_ties_the_project_to_a_gpu_driver() -> None:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", line)] == []
    assert [line for line in lines if line.lower().startswith(("nvidia", "cuda", "triton"))] == []


def test_every_range_holds_its_pin() -> None:
    extras = PROJECT["optional-dependencies"]
    wanted = [Requirement(line) for line in PROJECT["dependencies"] + [x for name in PINNED for x in extras[name]]]
    outside = {str(want): pins().get(canonicalize_name(want.name)) for want in wanted}
    assert not {
        line: pin for line, pin in outside.items() if pin is None or not Requirement(line).specifier.contains(pin)
    }


def test_the_conda_environment_installs_the_pins_on_a_python_of_the_range() -> None:
    parts = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    (python,) = [part.partition("=")[2] for part in parts if isinstance(part, str) and part.startswith("python=")]
    assert Requirement(f"python{PROJECT['requires-python']}").specifier.contains(python)
    assert {"pip": ["-r requirements.lock"]} in parts


def test_every_imported_package_is_asked_for() -> None:
    lines = sum(PROJECT["optional-dependencies"].values(), PROJECT["dependencies"])
    asked = {canonicalize_name(Requirement(line).name) for line in lines}
    missing = {}
    for path in [*ROOT.glob("stages/**/*.py"), *ROOT.glob("Infinity/**/*.py")]:
        for name in top_level_imports(path) - set(sys.stdlib_module_names) - {"stages", "Infinity", "__future__"}:
            if canonicalize_name(IMPORTED_AS.get(name, name)) not in asked:
                missing[name] = path.name
    assert not missing


def top_level_imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add((node.module or "").split(".")[0])
    return names
