"""Masks of several concepts become one, each chosen by what it does to its own concept."""

import json
from pathlib import Path

import yaml

from stages import binarize, train
from stages.interventions import load
from stages.methods import binarized
from tests import ROOT

SMALL = {"class": "stages.methods.minimalist.Minimalist", "steps": 2, "batch": 1, "seeds": 1, "sampler_steps": 2}
BLUE = {"prompts": ["a blue shape"], "neutral": ["a shape"], "retain": ["a red circle"], "target": {"colour": "blue"}}


def test_every_mask_is_judged_on_the_concept_of_its_run(project, monkeypatch):
    contents = {
        "concepts/blue": {"dataset": str(ROOT / "data/shapes_colors.csv")} | BLUE,
        "methods/masks": SMALL | {"keep_every": 1, "start": 0.5},
        "methods/binary": {"class": "stages.methods.binarized.Binarized", "of": "masks", "stop": 0.5, "seeds": 1},
    }
    for name, content in contents.items():
        Path(f"params/{name}.yaml").write_text(yaml.safe_dump(content))
    where = ["--backbone", "tiny", "--seed", "1"]
    for concept in ("red", "blue"):
        assert train.main([*where, "--concept", concept, "--method", "masks", "--out", concept]) == 0

    judged, measure = [], binarized.measure
    monkeypatch.setattr(
        binarized,
        "measure",
        lambda backbone, concept, *rest: judged.append(concept.name) or measure(backbone, concept, *rest),
    )
    names = [*where, "--concept", "red", "--method", "binary", "--out", "both"]
    assert binarize.main([*names, "--runs", "red", "blue", "--checkpoint", "erased"]) == 0
    assert judged == ["red", "blue"]
    notes = json.loads(Path("both/record-binarize.json").read_text())["notes"]
    assert {run: found["concept"] for run, found in notes["merged"].items()} == {"red": "red", "blue": "blue"}
    assert all(set(found["distance"]) == {"unedited", "trained", "binary"} for found in notes["merged"].values())
    assert load(Path("both")).mode == "binary" and Path("erased/model_index.json").is_file()

    judged.clear()
    Path("blue/record-train.json").unlink()
    assert binarize.main([*names, "--runs", "blue"]) == 0
    assert judged == ["red"]  # nothing says otherwise
