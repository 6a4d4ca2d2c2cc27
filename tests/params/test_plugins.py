"""A package beside this one brings a method, a metric and an attack by entry points."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from stages.door.listing import listing
from stages.methods import load_method
from stages.params import check, check_methods, check_metrics, names
from stages.params.plugins import forget
from stages.params.study import fitting, load_study
from tests import ROOT

METADATA = "Metadata-Version: 2.1\nName: loud-methods\nVersion: 1.2\n"
ENTRIES = """[palimpsest.methods]
shout = loud.methods:Shout
esd_x = loud.methods:Shout

[palimpsest.metrics]
loudness = loud.measures:Loudness

[palimpsest.attacks]
whisper = loud.measures:Whisper
"""
METHODS = '''"""A method of another package."""

from dataclasses import dataclass
from typing import ClassVar

from loud.kinds import Volume
from stages.methods.negative_prompt import NegativePrompt


@dataclass(frozen=True)
class Shout(NegativePrompt):
    """Guides away from the concept, loudly."""

    FILE: ClassVar[dict] = {"families": ["unet"], "trained": False, "volume": 2}

    volume: Volume = 1  # of the shout
'''
KINDS = "from stages.params.types import Count\n\nVolume = Count\n"
MEASURES = '''from dataclasses import dataclass

from stages.metrics.drift import Drift


@dataclass(frozen=True)
class Loudness(Drift):
    """How far pictures moved, called by another name."""


@dataclass(frozen=True)
class Whisper:
    """Asks once, quietly."""

    steps: int = 1
'''


@pytest.fixture
def loud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the path that holds an installed package."""
    site = tmp_path / "site"
    files = {"loud/__init__.py": "raise RuntimeError('imported')\n", "loud/methods.py": METHODS, "loud/kinds.py": KINDS}
    files |= {"loud/measures.py": MEASURES, "loud_methods-1.2.dist-info/METADATA": METADATA}
    files |= {"loud_methods-1.2.dist-info/entry_points.txt": ENTRIES}
    for name, text in files.items():
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text(text)
    monkeypatch.syspath_prepend(site)
    forget()
    yield site
    for name in [name for name in sys.modules if name.partition(".")[0] == "loud"]:
        del sys.modules[name]
    monkeypatch.undo()
    forget()


def test_what_a_package_names_is_there_with_its_fields_and_checked_without_importing_it(loud: Path) -> None:
    assert "shout" in names("methods") and "loudness" in names("metrics") and "whisper" in names("attacks")
    content = check_methods.check_method("shout")
    assert content == {"class": "loud.methods.Shout", "families": ["unet"], "trained": False, "volume": 2}
    check_methods.check_method_on("shout", "sd-shapes")
    check_metrics.check_metric("loudness")
    check_methods.check_attack("whisper")
    assert "shout" in fitting("sd-shapes", "red") and "shout" not in fitting("flux-shapes", "red")
    with pytest.raises(ValueError, match="shout works on unet"):
        check_methods.check_method_on("shout", "flux-shapes")
    assert "loud.methods" not in sys.modules


def test_its_method_is_built_and_is_one_of_a_study(loud: Path, tmp_path: Path) -> None:
    (loud / "loud/__init__.py").write_text("")
    assert load_method("shout", "sd-shapes").volume == 2
    for part in ("params", "data"):
        (tmp_path / part).mkdir()
        for path in (ROOT / part).iterdir():
            if path.name != "studies":
                (tmp_path / part / path.name).symlink_to(path)
    cell = {"backbones": ["sd-shapes"], "concepts": ["red"], "methods": ["none", "shout", "shout@volume=3"]}
    study = {"name": "loud", "cells": [cell], "seeds": [0], "prompts": {"concept": 4, "retain": 4}}
    (tmp_path / "params/studies").mkdir()
    (tmp_path / "params/studies/loud.yaml").write_text(yaml.safe_dump(study | {"metrics": ["rates", "loudness"]}))
    assert [run.method for run in load_study("loud", tmp_path / "params").runs] == ["none", "shout", "shout@volume=3"]


def test_a_change_of_its_code_is_a_change_of_its_result(loud: Path) -> None:
    before = check.digest_of({"class": "loud.methods.Shout"})
    (loud / "loud/methods.py").write_text(METHODS.replace("# of the shout", "# said otherwise"))
    assert check.digest_of({"class": "loud.methods.Shout"}) == before
    (loud / "loud/kinds.py").write_text("from stages.params.types import Natural\n\nVolume = Natural\n")
    assert check.digest_of({"class": "loud.methods.Shout"}) != before


def test_lists_say_where_a_thing_comes_from_and_files_come_first(loud: Path) -> None:
    entries = loud / "loud_methods-1.2.dist-info/entry_points.txt"
    entries.write_text(ENTRIES.replace("[palimpsest.metrics]", "broken = loud.nowhere:Nothing\n[palimpsest.metrics]"))
    forget()
    lines = {line.split()[0]: line for line in listing("methods").splitlines()}
    assert "loud-methods 1.2" in lines["shout"] and "fitted at once" in lines["shout"]
    assert " params " in lines["esd_x"] and "loud" not in lines["esd_x"]
    assert "cannot be read: loud-methods 1.2: broken: there is no module loud.nowhere" in lines["broken"]
    assert check_methods.check_method("esd_x")["class"] == "stages.methods.esd.ESD"


def test_a_class_of_a_package_that_names_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "params/methods").mkdir(parents=True)
    (tmp_path / "params/methods/odd.yaml").write_text("class: subprocess.Popen\n")
    with pytest.raises(ValueError, match="no module subprocess.py for 'subprocess.Popen'"):
        check_methods.check_method("odd", tmp_path / "params")
