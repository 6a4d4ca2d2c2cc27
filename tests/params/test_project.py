"""The project folder: named, at hand, or that of the package; made without writing over anything."""

from pathlib import Path

import pytest

from stages.params import names
from stages.params.layout import run_folder
from stages.params.project import HOME, is_project, located, make, shipped, writable
from tests import ROOT


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder that is no project, and no project named."""
    monkeypatch.delenv(HOME, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_outside_a_project_files_are_those_that_came_with_the_package() -> None:
    assert shipped() == ROOT and located("data/shapes_colors.csv") == ROOT / "data/shapes_colors.csv"
    assert "esd" in names("methods")


def test_a_file_at_hand_comes_before_the_packages(elsewhere: Path) -> None:
    (elsewhere / "data").mkdir()
    (elsewhere / "data/shapes_colors.csv").write_text("mine")
    assert located("data/shapes_colors.csv").read_text() == "mine"
    assert located("data/not_there.csv") == Path("data/not_there.csv")


def test_a_project_at_hand_is_all_there_is(elsewhere: Path) -> None:
    (elsewhere / "params").mkdir()
    assert names("methods") == [] and located("data/shapes_colors.csv") == Path("data/shapes_colors.csv")
    assert run_folder("a", "b", "c", 0) == Path("artifacts/runs/a/b/c/0")  # paths at hand stay short


def test_a_named_project_is_used_from_anywhere(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(HOME, str(elsewhere / "mine"))
    assert run_folder("a", "b", "c", 0) == elsewhere / "mine/artifacts/runs/a/b/c/0"
    assert located("params") == elsewhere / "mine/params"
    with pytest.raises(ValueError, match=r"PALIMPSEST_HOME names .*mine, which is no project .*palimpsest init"):
        writable()


def test_a_made_project_has_what_studies_need_and_no_clutter() -> None:
    assert make(Path("new")) == ["params", "data", "Snakefile", "workflow", "profiles"]
    assert is_project(Path("new")) and Path("new/workflow/rules/train.smk").is_file()
    assert not list(Path("new").rglob("__pycache__")) and not Path("new/data/zoo").exists()


def test_nothing_is_written_where_a_part_is_already() -> None:
    Path("new/data").mkdir(parents=True)
    Path("new/data/mine.csv").write_text("x")
    with pytest.raises(ValueError, match="new/data is there already"):
        make(Path("new"))
    assert [path.name for path in Path("new").rglob("*")] == ["data", "mine.csv"]
