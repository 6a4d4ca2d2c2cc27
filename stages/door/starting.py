"""Files to start from: commented, valid as they stand, and never written over another one."""

from __future__ import annotations

from pathlib import Path
from string import Template

from stages.params.check import check_backbone, checked
from stages.params.check_methods import check_method
from stages.params.concept import load_concept
from stages.params.load import check_name
from stages.params.project import writable
from stages.params.study import load_study
from stages.store.files import write_text

TEMPLATES = Path(__file__).parent / "templates"
FOLDERS = {"concept": "concepts", "method": "methods", "study": "studies", "backbone": "backbones"}


def start(kind: str, name: str) -> Path:
    """Writes the file of that name and checks it as a study would; ValueError if there is one already."""
    check_name(name, kind)
    path = writable() / "params" / FOLDERS[kind] / f"{name}.yaml"
    if path.exists():
        raise ValueError(f"{path} is there already; choose another name")
    text = Template((TEMPLATES / f"{kind}.yaml").read_text(encoding="utf-8"))
    write_text(path, text.substitute(name=name, words=name.replace("_", " ")))
    try:
        check(kind, name)
    except Exception:  # such as a study of a concept that this project has not
        path.unlink()
        raise
    return path


def check(kind: str, name: str) -> None:
    """Raises a ValueError for a file that a study would refuse."""
    if kind == "concept":
        checked("concepts", name)
        load_concept(name)
    elif kind == "method":
        check_method(name)
    elif kind == "backbone":
        check_backbone(name)
    else:
        load_study(name)
