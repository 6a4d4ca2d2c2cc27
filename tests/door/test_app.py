"""The command `palimpsest`: its help costs nothing, lists say what there is, new files are valid, runs are attacked."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from stages.door.app import main
from stages.door.doctor import missing
from stages.door.listing import listing
from stages.params.load import KINDS, load_params, names
from stages.params.project import HOME
from stages.store.pictures import read_metadata
from tests import ROOT

COMMANDS = ("erase", "sample", "attack", "measure", "export", "verify", "board", "list", "new", "init", "doctor")
FOLDERS = {"concept": "concepts", "method": "methods", "study": "studies", "backbone": "backbones"}


def run(*argv: str) -> int:
    """The exit code of a command line."""
    with pytest.raises(SystemExit) as end:
        main([*argv])
    return int(end.value.code or 0)


@pytest.fixture(autouse=True)
def unnamed(monkeypatch: pytest.MonkeyPatch) -> None:
    """No project is named, and what a command names is forgotten."""
    monkeypatch.setenv(HOME, "")


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_every_command_has_help_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*filter(None, [command]), "--help") == 0
    said = capsys.readouterr().out
    assert f"Example: palimpsest {command}" in said if command else all(name in said for name in COMMANDS)


def test_help_imports_nothing_heavy() -> None:
    asked = """
import sys
from stages.door.app import main
try:
    main(["erase", "--help"])
except SystemExit:
    print([name for name in ("torch", "pandas", "diffusers", "jsonschema", "rich") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", asked], text=True, capture_output=True, check=True, cwd=ROOT)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("kind", KINDS)
def test_a_list_has_a_line_for_each_file(kind: str) -> None:
    lines = listing(kind).splitlines()
    assert [line.split()[0] for line in lines[1:]] == names(kind)
    assert not any("cannot be read" in line for line in lines)


def test_lists_say_families_costs_and_what(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list", "methods") == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "1000 steps" in lines["esd_x"] and "partial samples" in lines["esd_x"]
    assert "fitted at once" in lines["uce"] and "infinity" in lines["s_vare"]
    assert "12 GB" in listing("backbones") and "shapes_colors.csv" in listing("prompts")
    assert run("list", "method") == 2


def test_a_broken_file_costs_its_own_line(project: Path) -> None:
    Path("params/methods/broken.yaml").write_text("steps: [")
    (line,) = [line for line in listing("methods").splitlines() if line.startswith("broken")]
    assert "cannot be read: params/methods/broken.yaml: not valid YAML" in line


def test_new_files_are_valid_and_none_is_written_over(tmp_path: Path, monkeypatch, capsys) -> None:
    assert run("init", str(tmp_path / "mine")) == 0
    monkeypatch.chdir(tmp_path)
    for kind, folder in FOLDERS.items():
        command = ["--project", "mine", "new", kind, "barn_owl"]
        assert run(*command) == 0
        path = tmp_path / f"mine/params/{folder}/barn_owl.yaml"
        text = path.read_text()
        assert text.count("#") > 3 and "valid as it stands" in capsys.readouterr().out
        assert run(*command) == 2 and "is there already" in capsys.readouterr().err and path.read_text() == text
    assert load_params("concepts", "barn_owl", tmp_path / "mine/params")["prompts"][0] == "a barn owl"
    assert run("--project", "mine", "new", "concept", "../x") == 2
    assert run("--project", "nowhere", "list", "methods") == 2
    assert "make one with: palimpsest init nowhere" in capsys.readouterr().err
    monkeypatch.setenv(HOME, "")
    assert run("new", "concept", "owl") == 2 and "no project folder" in capsys.readouterr().err
    assert run("init", "mine") == 2


def test_a_new_study_that_this_project_cannot_run_leaves_no_file(project: Path, capsys) -> None:
    assert run("new", "study", "mine") == 2
    assert not Path("params/studies/mine.yaml").exists() and "error: no backbone 'sd-tiny'" in capsys.readouterr().err


def test_the_doctor_says_what_a_study_lacks(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("doctor") == 0
    said = capsys.readouterr().out
    for word in ("palimpsest", "torch", "processor", "GPU", "project    none here", "disk", "zoo"):
        assert word in said
    for part in ("params", "data"):
        os.symlink(ROOT / part, part)
    assert run("doctor", "--study", "smoke") == 1
    assert "  sd-tiny is not trained yet: the study trains it" in capsys.readouterr().out
    assert not any("clip" in line for line in missing("smoke"))


@pytest.fixture
def studied(project: Path, clip_folder: str) -> Path:
    """The project with a study of its method, run by the command that erases."""
    shutil.copy(ROOT / "params/protocol.yaml", "params")
    clip = {"model": clip_folder, "choices": {"class": ["dog", "cat"]}}
    small = {"population": 8, "generations": 2, "length": 3, "readable": True}
    files = {
        "methods/none": {"class": "stages.methods.none.NoMethod", "trained": False},
        "metrics/clip_rates": {"class": "stages.metrics.clip_rates.CLIPRates"} | clip,
        "metrics/clip_score": {"class": "stages.metrics.clip_score.CLIPScore", "model": clip_folder, "draws": 100},
        "attacks/bell": {"class": "stages.attacks.ring_a_bell.RingABell"} | small,
    }
    for name, content in files.items():
        Path(f"params/{name}.yaml").parent.mkdir(exist_ok=True)
        Path(f"params/{name}.yaml").write_text(yaml.safe_dump(content))
    made = ["erase", "tiny", "owl", "--kind", "object", "--method", "esd", "--pictures", "2", "--out", "erased"]
    assert run(*made) == 0
    return project


def test_a_study_is_attacked_measured_shown_exported_and_sampled(studied: Path, capsys) -> None:
    study, folder = "owl_tiny_esd", Path("artifacts/runs/tiny/owl/esd/0")
    assert run("attack", study, "bell") == 0
    assert len(read_metadata(folder / f"attacks/{study}/bell")) >= 2
    rows = json.loads((folder / f"metrics/{study}/clip_owl.json").read_text())["rows"]
    assert any(row["metric"] == "attack_rate" and row["prompts"] == "bell" for row in rows)
    assert run("attack", study, "bell") == 2 and "remove it first" in capsys.readouterr().err
    assert run("attack", study, "bel") == 2 and "did you mean bell" in capsys.readouterr().err
    assert run("attack", study, "bell", "--method", "uce") == 2
    assert "has no such run; have: tiny/owl/esd, tiny/owl/none" in capsys.readouterr().err
    shutil.rmtree(folder / f"metrics/{study}")
    assert run("measure", study) == 0 and (folder / f"metrics/{study}/clip_owl.json").is_file()
    assert run("board", study) == 0
    assert "| esd |" in (said := capsys.readouterr().out) and "The page: artifacts/report/index.html" in said
    assert run("export", str(folder), "--out", "elsewhere") == 0 and Path("elsewhere/model_index.json").is_file()
    assert run("export", str(folder), "--out", "elsewhere") == 2
    draw = ["sample", "tiny", "a red circle", "a cat", "--each", "2"]
    assert run(*draw, "--out", "plain") == 0
    assert run(*draw, "--run", "erased/intervention", "--out", "edited") == 0
    plain, edited = (read_metadata(Path(name) / "pictures") for name in ("plain", "edited"))
    assert plain == edited and [row["seed"] for row in plain] == [0, 1, 0, 1]
    pictures = [Path(f"{name}/pictures/0000.png").read_bytes() for name in ("plain", "edited")]
    assert pictures[0] != pictures[1] and not Path("plain/intervention.json").exists()
    assert run(*draw, "--out", "plain") == 2
    assert run(*draw, "--run", "nowhere", "--out", "other") == 2 and not Path("other").exists()
