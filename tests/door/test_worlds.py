"""Words of a small world: the concept comes of the world's own table, and the judge measures it."""

import shutil
from pathlib import Path

import pytest
import yaml

from stages import erase
from stages.params.concept import load_concept
from stages.params.study import load_study
from tests import ROOT
from tests.metrics.told import Told, read_from_files

GREEN = ["--backbone", "tiny", "--words", "green", "--method", "esd", "--pictures", "2", "--out", "erased"]


@pytest.fixture
def world(project: Path):
    """The project with a backbone of the world of shapes, its table and a judge that is told what it sees."""
    shutil.copytree(ROOT / "data", "data", ignore=shutil.ignore_patterns("zoo"))
    for name in ("protocol", "zoo"):
        shutil.copy(ROOT / f"params/{name}.yaml", "params")
    backbone = yaml.safe_load(Path("params/backbones/tiny.yaml").read_text()) | {
        "world": "shapes",
        "architecture": "sd",
    }
    files = {
        "backbones/tiny": backbone,
        "methods/none": {"class": "stages.methods.none.NoMethod", "trained": False},
        "metrics/rates": {"class": "stages.metrics.rates.Rates", "draws": 100},
        "metrics/drift": {"class": "stages.metrics.drift.Drift", "draws": 100},
    }
    for name, content in files.items():
        Path(f"params/{name}.yaml").parent.mkdir(exist_ok=True)
        Path(f"params/{name}.yaml").write_text(yaml.safe_dump(content))
    Path("artifacts/worlds/shapes/judge").mkdir(parents=True)
    with read_from_files(Told()):
        yield project


def test_a_word_of_the_world_is_erased_and_judged(world: Path, caplog) -> None:
    caplog.set_level("INFO")
    assert erase.main(GREEN) == 0
    green = load_concept("green")
    assert (
        green.target == {"colour": "green"} and green.kind == "attribute" and len(green.prompts) == len(green.neutral)
    )
    assert all("green" in prompt for prompt in green.prompts) and not any("green" in twin for twin in green.neutral)
    assert 6 <= len(green.retain) <= 12 and len({prompt.split()[-2] for prompt in green.retain}) > 1
    assert load_study("green_tiny_esd").metrics == ("rates", "drift")
    assert "green seen: " in caplog.messages[-2]
    assert {"README.md", "report.html", "before_after.png", "checkpoint"} <= {p.name for p in Path("erased").iterdir()}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--words", "plaid"], "tiny draws the world of shapes, which has no 'plaid'; it has colour: blue, green"),
        (["--synonym", "emerald"], "has its own synonyms and neutral twins"),
    ],
)
def test_what_the_world_has_not_is_refused(world: Path, capsys, options, message) -> None:
    assert erase.main([*GREEN, *options]) == 2
    assert message in capsys.readouterr().err and not Path("params/studies").exists()


@pytest.mark.parametrize("part", ["artifacts/backbones/tiny", "artifacts/worlds/shapes/judge"])
def test_what_is_not_trained_is_refused_with_the_command_that_trains_it(world: Path, capsys, part: str) -> None:
    shutil.rmtree(part)
    assert erase.main(GREEN) == 2
    assert f"train it with: snakemake --cores all {part}/record-pretrain.json" in capsys.readouterr().err
    assert not Path("params/studies").exists() and not Path("params/concepts/green.yaml").exists()
