"""The whole search on a tiny backbone: two trials, their log, what a second run does, and the tuned file."""

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from stages import tune
from stages.backbones import load_backbone
from stages.params import build, load_params
from stages.params.concept import load_concept
from stages.tuning.measuring import Bench, Case
from stages.tuning.side import tuning_sets
from tests import ROOT

PICTURES = {"concept": 8, "synonym": 4, "neutral": 6, "seen": 4, "far": 4}
OUT = "artifacts/tuning/tiny/esd"
SEARCH = ["search", "--method", "esd", "--backbone", "tiny", "--concepts", "red", "--metric", "told", "--out", OUT]
SPACE = {
    "fixed": {"scale": 2.0},
    "search": {"lr": {"log": [1e-3, 1.0]}, "steps": {"integer": [1, 4]}, "train": {"choice": ["x", "u"]}},
}


def write(kind, name, content):
    path = Path("params") / kind / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content))


@pytest.fixture
def tuned(project, monkeypatch):
    """The project with a protocol, a space, a judge, and one search of two trials done."""
    protocol = yaml.safe_load((ROOT / "params/protocol.yaml").read_text())
    Path("params/protocol.yaml").write_text(yaml.safe_dump(protocol | {"trials": 2}))
    monkeypatch.setattr(tune, "tuning_sets", lambda concept: tuning_sets(concept, PICTURES))
    Path("data").mkdir()
    shutil.copy(ROOT / "data/shapes_colors.csv", "data")
    red = yaml.safe_load(Path("params/concepts/red.yaml").read_text())
    write("concepts", "red", red | {"dataset": "data/shapes_colors.csv"})
    write("tuning", "esd", SPACE)
    tiny = yaml.safe_load(Path("params/backbones/tiny.yaml").read_text())
    write("backbones", "tiny", tiny | {"world": "shapes", "architecture": "unet"})
    write("metrics", "told", {"class": "tests.tuning.told.Told"})
    assert tune.main(SEARCH) == 0
    return json.loads(Path(OUT, "summary.json").read_text())


def test_every_trial_is_logged_with_settings_parts_seconds_and_processor(tuned):
    first, second = tuned["trials"]
    assert first["settings"] == {"lr": 0.01, "steps": 2, "train": "x"}  # the method's own file
    assert second["settings"] != first["settings"]
    for trial in tuned["trials"]:
        red = trial["parts"]["red"]
        parts = [*red["erased"].values(), *red["lost"].values(), *red["edited"].values(), *red["unedited"].values()]
        assert {"concept", "synonym"} <= set(red["edited"]) and all(0 <= part <= 1 for part in parts)
        assert trial["objective"] == pytest.approx(sum(red["erased"].values()) / 2 - max(red["lost"].values()))
        assert trial["seconds"] > 0 and red["fit_seconds"] >= 0 and trial["processor"]
    assert tuned["objective"] == max(trial["objective"] for trial in tuned["trials"])
    assert (
        tuned["fixed"] == {"scale": 2.0} and tuned["concepts"] == ["red"] and tuned["pictures"]["red"]["concept"] == 8
    )
    rows = list(csv.DictReader(Path(OUT, "trials.csv").read_text().splitlines()))
    assert [float(row["lr"]) for row in rows] == [trial["settings"]["lr"] for trial in tuned["trials"]]


def test_a_finished_search_loads_no_backbone_and_a_longer_one_goes_on(tuned, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("stages.backbones.load_backbone", lambda name: pytest.fail("loaded"))
        assert tune.main(SEARCH) == 0
    assert tune.main([*SEARCH, "--trials", "3"]) == 0
    longer = json.loads(Path(OUT, "summary.json").read_text())
    assert longer["trials"][:2] == tuned["trials"] and len(longer["trials"]) == 3


def test_a_changed_question_is_asked_anew(tuned):
    write("tuning", "esd", SPACE | {"fixed": {"scale": 3.0}})
    assert tune.main([*SEARCH, "--trials", "1"]) == 0
    again = json.loads(Path(OUT, "summary.json").read_text())
    assert len(again["trials"]) == 1 and again["question"] != tuned["question"]


def test_trials_leave_the_backbone_as_it_was_and_no_file_but_the_log(tuned):
    made = {path.name for path in Path(OUT).iterdir()}
    assert made == {"summary.json", "trials.csv", "journal.log", ".journal.log.alive"}
    backbone = load_backbone("tiny")
    before = {name: value.clone() for name, value in backbone.net.state_dict().items()}
    case = Case(load_concept("red"), tuning_sets(load_concept("red"), {"concept": 4, "neutral": 4, "far": 2}))
    bench = Bench.of(backbone, build(load_params("metrics", "told"), "told"), [case], margin=0.05)
    base = load_params("methods", "esd")
    one, other = (bench.run(base, {"lr": lr}, "esd") for lr in (0.5, 0.01))
    assert bench.run(base, {"lr": 0.5}, "esd").objective == one.objective  # nothing of the one between stays
    assert all(torch.equal(before[name], value) for name, value in backbone.net.state_dict().items())
    assert one.parts["red"]["unedited"] == other.parts["red"]["unedited"] == bench.unedited[0]


def test_the_best_trial_comes_into_the_tuned_file_and_other_architectures_stay(tuned):
    write("tuned", "esd", {"shapes": {"flux": {"lr": 0.25}, "unet": {"lr": 0.125}}})
    assert tune.main(["write", "--method", "esd", "--out", "artifacts/tuning"]) == 0
    text = Path("params/tuned/esd.yaml").read_text()
    assert yaml.safe_load(text) == {"shapes": {"flux": {"lr": 0.25}, "unet": {"scale": 2.0} | tuned["settings"]}}
    header = [line for line in text.splitlines() if line.startswith("#")]
    (about,) = [line for line in header if line.startswith("# shapes unet: tuned on red with tiny, protocol 1: trial ")]
    assert f"of 2, objective {tuned['objective']:.3f} (trial 0: " in about and tuned["processors"][0] in about
    assert "# shapes flux: not searched; what stood here before." in header
    assert tune.main(["write", "--method", "esd", "--out", "artifacts/tuning"]) == 0
    assert Path("params/tuned/esd.yaml").read_text() == text


def test_wrong_input_is_one_line(tuned, capsys):
    def said(*words):
        assert tune.main(list(words)) == 2
        return capsys.readouterr().err

    capsys.readouterr()
    assert "--kind style: red is of another; leave it out" in said(*SEARCH, "--kind", "style")
    write("tuning", "none", {"nothing": "a reference has no settings"})
    write("methods", "none", {"class": "stages.methods.none.NoMethod"})
    about_none = said(*["none" if word == "esd" else word for word in SEARCH])
    assert "params/tuning/none.yaml: nothing is tuned of none: a reference has no settings" in about_none
    assert "no search of uce; run: snakemake" in said("write", "--method", "uce", "--out", "artifacts/tuning")
    about = yaml.safe_load(Path("params/concepts/red.yaml").read_text())
    write("concepts", "green", about | {"target": {"colour": "green"}})
    reported = ["green" if word == "red" else word for word in SEARCH]
    assert "green is a concept to report; tune on one of " in said(*reported)
    write("backbones", "tiny", yaml.safe_load(Path("params/backbones/tiny.yaml").read_text()) | {"trained": 1})
    assert "a backbone of the seed 1 is to report" in said(*SEARCH)
