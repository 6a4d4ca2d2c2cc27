"""Classes read as source: fields with types, constants, and which code a result rests on."""

import sys
from pathlib import Path
from typing import Any, Literal

import pytest

from stages.params import load_params, names
from stages.params.source import check_class, class_fields, closure, code, constant

ROOT = Path(__file__).parents[2]


def write(root: Path, module: str, source: str) -> None:
    path = root.joinpath(*module.split(".")).with_suffix(".py")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A package of three rooms: a method on a base and an equation, the latter through the room's face."""
    write(
        tmp_path,
        "stages.words",
        "from typing import Literal\nReleased = Literal['x', 'u']\nTrain = Released | Literal['full']\n",
    )
    write(tmp_path, "stages.objectives.guidance", "SIGN = 1\n\ndef guided(x):\n    return SIGN * x\n")
    write(tmp_path, "stages.objectives.masks", "def masked(x):\n    return x\n")
    write(
        tmp_path,
        "stages.objectives.__init__",
        "from stages.objectives.guidance import guided\nfrom stages.objectives.masks import masked\n",
    )
    write(tmp_path, "stages.backbones.core", "SPEED = 1\n")
    write(
        tmp_path,
        "stages.methods.base",
        "from typing import ClassVar\nfrom stages.backbones.core import SPEED\n"
        "from stages.params.types import Count, Rate\n"
        "class Base:\n    WORLD: ClassVar[str] = 'shapes'\n    steps: Count = 5\n    lr: Rate = 1e-3\n    of: str\n",
    )
    write(
        tmp_path,
        "stages.methods.new",
        '"""A method."""\n\nfrom __future__ import annotations\n\nfrom dataclasses import dataclass, field\n'
        "from typing import TYPE_CHECKING\n\nfrom stages.methods.base import Base\n"
        "from stages.objectives import guided\n"
        "from stages.words import Train\n\nif TYPE_CHECKING:\n    from stages.methods.other import Other\n\n"
        "@dataclass\nclass New(Base):\n    lr: float = 1.0\n"
        "    train: Train | None = 'x'\n    made: int = field(init=False)\n\n"
        '    def fit(self):\n        """Fits."""\n        return guided(self.lr)\n',
    )
    write(tmp_path, "stages.methods.other", "class Other:\n    array: Tensor\n")
    return tmp_path


def test_fields_come_with_those_of_bases_and_know_their_types(tree: Path) -> None:
    fields = class_fields("stages.methods.new.New", "here", tree)
    assert {name: field.text for name, field in fields.items()} == {
        "steps": "Count",
        "lr": "float",
        "of": "str",
        "train": "Train | None",
    }
    assert [name for name, field in fields.items() if field.required] == ["of"]
    assert fields["steps"].default == 5
    assert set(fields["train"].type.__args__) == {Literal["x", "u", "full"], type(None)}


def test_a_type_that_no_file_can_hold_is_refused_and_not_taken_for_anything(tree: Path) -> None:
    with pytest.raises(ValueError, match="other.py: field array of Other: Tensor is no type"):
        class_fields("stages.methods.other.Other", "here", tree)


def test_a_constant_is_that_of_the_nearest_base(tree: Path) -> None:
    assert constant("stages.methods.new.New", "WORLD", tree) == "shapes"
    assert constant("stages.methods.new.New", "LABELS", tree) is None


def test_a_wrong_class_is_told_the_nearest(tree: Path) -> None:
    with pytest.raises(ValueError, match="here: no class 'Neww' in stages/methods/new.py; did you mean New?"):
        check_class("stages.methods.new.Neww", "here", tree)
    with pytest.raises(ValueError, match="here: class: no module stages/methods/knew.py"):
        check_class("stages.methods.knew.New", "here", tree)


def test_the_code_of_a_method_is_what_it_runs_with_and_no_more(tree: Path) -> None:
    assert list(closure("stages.methods.new.New", tree)) == [
        "stages.methods.base",
        "stages.methods.new",
        "stages.objectives.guidance",  # not its neighbour in the room, nor the room's face
        "stages.words",
    ]


@pytest.mark.parametrize(
    ("module", "old", "new", "changes"),
    [
        ("methods.new", "A method", "Another", False),
        ("methods.new", "Fits.", "Fits x.", False),
        ("methods.new", "return guided(self.lr)", "return  guided( self.lr )  # why", False),
        ("methods.new", "guided(self.lr)", "guided(-self.lr)", True),
        ("objectives.guidance", "SIGN * x", "-SIGN * x", True),
        ("objectives.masks", "return x", "return -x", False),
        ("words", "'full'", "'all'", True),
        ("backbones.core", "SPEED = 1", "SPEED = 2", False),
        ("methods.other", "array", "arrays", False),
    ],
)
def test_a_digest_sees_all_code_to_the_leaves_and_code_alone(
    tree: Path, module: str, old: str, new: str, changes: bool
) -> None:
    before = code("stages.methods.new.New", tree)
    path = tree.joinpath("stages", *module.split(".")).with_suffix(".py")
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    assert (code("stages.methods.new.New", tree) != before) == changes


def test_a_digest_is_blind_to_what_a_tracker_is_told(tree: Path) -> None:
    before = code("stages.methods.new.New", tree)
    path = tree / "stages/methods/new.py"
    text = path.read_text()
    told = text.replace("from stages.words", "from stages.store.tracking import follow\nfrom stages.words")
    told = told.replace("        return guided", "        follow('new', 0, loss=self.lr)\n        return guided")
    assert told.count("follow") == 2
    path.write_text(told)
    assert code("stages.methods.new.New", tree) == before
    path.write_text(told.replace("follow('new', 0, loss=self.lr)", "self.lr = follow('new', 0)"))
    assert code("stages.methods.new.New", tree) != before


@pytest.mark.parametrize("kind", ["methods", "attacks", "metrics"])
def test_every_field_of_a_file_has_a_type_that_is_checked(kind: str) -> None:
    for name in names(kind, ROOT / "params"):
        fields = class_fields(load_params(kind, name, ROOT / "params")["class"], name)
        assert all(field.type is not Any for field in fields.values()), name


def test_every_methods_code_holds_its_equations_and_no_backbone() -> None:
    for name in names("methods", ROOT / "params"):
        modules = list(closure(load_params("methods", name, ROOT / "params")["class"]))
        assert not [
            module for module in modules if module.startswith(("stages.backbones", "stages.params", "Infinity"))
        ]
    assert "stages.objectives.guidance" in closure("stages.methods.esd.ESD")
    assert "stages.training.minimize" in closure("stages.methods.esd.ESD")
    assert "stages.metrics.intervals" in closure("stages.metrics.rates.Rates")


def test_reading_source_imports_no_torch(tmp_path: Path) -> None:
    import subprocess

    says = "import sys; from stages.params.study import load_study; load_study('full'); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", says], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
