"""The entry of the zoo: what is trained goes in, and comes out where a study looks for it."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from stages import pretrain, zoo
from stages.params import load_params
from stages.params.zoo import digest_of, recipe_of
from stages.store.files import digest
from tests import ROOT
from tests.tiny import unet

SETTINGS = {
    "class": "stages.backbones.unet.UNet",
    "family": "unet",
    "world": "shapes",
    "build": {},
    "pretrain": {"seed": 2},
}


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """A project whose zoo was trained."""
    monkeypatch.chdir(tmp_path)
    Path("params/backbones").mkdir(parents=True)
    Path("params/backbones/tiny.yaml").write_text(yaml.safe_dump(SETTINGS | {"path": "artifacts/backbones/tiny"}))
    content = {"worlds": {"shapes": {"parts": ["autoencoder"]}}, "backbones": ["tiny"]}
    Path("params/zoo.yaml").write_text(yaml.safe_dump(content))
    backbone = unet()
    backbone.save(Path("artifacts/zoo/backbones/tiny"))
    shutil.copytree("artifacts/zoo/backbones/tiny/vae", "artifacts/zoo/worlds/shapes/autoencoder")
    record = {"seed": 0, "git": {"commit": "abc"}, "processor": {"name": "AMD"}, "threads": 1, "seconds": 3.0}
    recipe = {"recipe_sha256": digest_of(recipe_of(load_params("backbones", "tiny")))}
    for folder, params in (("backbones/tiny", recipe), ("worlds/shapes/autoencoder", {})):
        path = Path("artifacts/zoo") / folder / "record-pretrain.json"
        path.write_text(json.dumps(record | {"params": params, "versions": {}}))
    figures = [{"kind": "colour", "rate": 0.5, "low": 0.4, "high": 0.6, "n": 64}]
    Path("artifacts/zoo/backbones/tiny/record-figures.json").write_text(json.dumps({"notes": {"figures": figures}}))
    return tmp_path


def error(capsys, *words):
    assert zoo.main(list(words)) == 2
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_all_of_it_is_added_checked_listed_and_taken(trained, capsys, caplog):
    caplog.set_level("INFO")
    assert zoo.main(["add"]) == 0 and zoo.main(["check"]) == 0
    assert "2 entries" in caplog.text
    assert zoo.main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:4] for line in lines[1:]] == [
        ["shapes-autoencoder", "autoencoder", "shapes", "0"],
        ["tiny", "backbone", "shapes", "2"],
    ]
    manifest = json.loads(Path("data/zoo/manifest.json").read_text())["entries"]["tiny"]
    assert (manifest["commit"], manifest["seconds"], manifest["figures"][0]["rate"]) == ("abc", 3.0, 0.5)
    assert zoo.main(["take", "tiny", "--out", "out"]) == 0
    assert Path("out/model_index.json").is_file()


def test_the_workflow_s_command_takes_what_it_would_train(trained):
    assert zoo.main(["add"]) == 0
    options = ["backbone", "--backbone", "tiny", "--zoo", "data/zoo", "--out", "artifacts/backbones/tiny"]
    assert pretrain.main(options) == 0
    first = digest(Path("artifacts/backbones/tiny"))
    record = json.loads(Path("artifacts/backbones/tiny/record-pretrain.json").read_text())
    assert record["notes"]["zoo"]["commit"] == "abc" and record["notes"]["zoo"]["processor"] == {"name": "AMD"}
    assert pretrain.main(options) == 0
    assert digest(Path("artifacts/backbones/tiny")) == first
    out = "artifacts/worlds/shapes/autoencoder"
    assert pretrain.main(["autoencoder", "--world", "shapes", "--zoo", "data/zoo", "--out", out]) == 0
    assert Path(out, "config.json").is_file()


def test_what_cannot_be_taken_or_added_is_one_line(trained, capsys):
    assert "snakemake zoo" in error(capsys, "check")
    assert "no entry 'tini'; did you mean tiny?" in error(capsys, "add", "tini")
    assert zoo.main(["add"]) == 0
    assert "no entry 'tini'; did you mean tiny?" in error(capsys, "take", "tini", "--out", "x")
    assert "take needs --out" in error(capsys, "take", "tiny")
    missing = ["judge", "--zoo", "data/zoo", "--out", "artifacts/worlds/shapes/judge"]
    assert pretrain.main(missing) == 2
    assert "no entry 'shapes-judge'; train it here: snakemake --config zoo=false" in capsys.readouterr().err
    stored = next(path for path in Path("data/zoo").rglob("*.safetensors"))
    stored.write_bytes(stored.read_bytes()[:-1])
    assert f"{stored} is damaged" in error(capsys, "check")


def test_a_backbone_that_was_trained_by_another_file_is_not_added(trained, capsys):
    path = Path("params/backbones/tiny.yaml")
    path.write_text(yaml.safe_dump(SETTINGS | {"path": "x", "pretrain": {"seed": 3}}))
    assert "tiny: its file has changed since it was trained" in error(capsys, "add", "tiny")
    Path("artifacts/zoo/backbones/tiny/record-pretrain.json").unlink()
    assert "train it with: snakemake zoo" in error(capsys, "add", "tiny")


def test_a_trained_backbone_is_judged_for_its_card(trained, capsys):
    from stages.worlds.judge import Judge

    assert "tiny" in error(capsys, "judge", "tiny")  # its world has no table of prompts
    content = yaml.safe_load(Path("params/zoo.yaml").read_text())
    table = str(ROOT / "data/shapes_colors.csv")
    content["worlds"]["shapes"] |= {"parts": ["autoencoder", "judge"], "prompts": table}
    Path("params/zoo.yaml").write_text(yaml.safe_dump(content))
    Judge(("red", "blue"), ("circle", "square"), width=4, depth=8).save(Path("artifacts/zoo/worlds/shapes/judge"))
    assert zoo.main(["judge", "tiny", "--n", "5"]) == 0
    figures = json.loads(Path("artifacts/zoo/backbones/tiny/record-figures.json").read_text())["notes"]["figures"]
    assert [(one["kind"], one["n"]) for one in figures] == [("colour", 5), ("shape", 4)]  # one names none
    assert all(0 <= one["low"] <= one["rate"] <= one["high"] <= 1 for one in figures)
    assert zoo.main(["add", "tiny"]) == 0
    assert json.loads(Path("data/zoo/manifest.json").read_text())["entries"]["tiny"]["figures"] == figures
