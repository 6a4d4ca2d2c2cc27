"""Documented experiments become files that a study reads; every wrong field is named in one line."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from stages import experiment as entry
from stages.backbones import load_settings
from stages.documented.experiment import files, read_experiment, read_model
from stages.methods import load_method
from stages.metrics.linear import LinearRates, read_linear
from stages.metrics.samples import Samples
from stages.params import build, load_params, method_params
from stages.params.concept import load_concept
from stages.params.datasets import read_prompts, select
from stages.params.study import load_study
from tests import ROOT

SETUP = {"scales": {"0": {"layers": [-1], "strength_cond": 3.0, "strength_uncond": 1.0}}}
MODEL = {
    "model_path": "weights/infinity_125M_256x256.pth",
    "model_type": "infinity_layer12",
    "vae_path": "weights/infinity_vae_d16.pth",
    "vae_type": 16,
    "pn": "0.06M",
    "text_encoder_ckpt": "google/flan-t5-xl",
    "text_channels": 2048,
}
FIELDS = {
    "DATASET": "shapes_colors",
    "DATASET_PATH": "data/shapes_colors.csv",
    "STEERING_TYPE": "BOTH",
    "STEERING_LOCATION": "ca_block",
    "VARIANT": 1,
    "BATCH_SIZE": 8,
    "CFG": 3.0,
    "DISTANCE": "MAHALANOBIS",
    "STEERING_MODE": "CONDITIONAL",
    "EXPERIMENT_DIR": "lab",
    "EXPERIMENT_SETUP": "one.json",
    "GRID_PATH": "lab/results/grid.png",
    "CLASSIFIER_WEIGHTS": "",
    "UNCHANGED_SAVED": "",
    "FID": False,
}


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A project with one experiment's folder."""
    monkeypatch.chdir(tmp_path)
    for folder in ("params", "data"):
        shutil.copytree(ROOT / folder, folder)
    for name, content in {"one": SETUP, "two": [SETUP, SETUP | {"layers_text": [0], "strength_text": 2.0}]}.items():
        path = Path("lab/setup") / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    Path("lab/weights").mkdir()
    torch.save({"weight": torch.eye(2, 8), "bias": torch.zeros(2)}, "lab/weights/linear.pth")
    Path("model.yaml").write_text(yaml.safe_dump(MODEL))
    return tmp_path


def said(**changes):
    """The experiment's file with some fields changed, None for left out."""
    content = {key: value for key, value in (FIELDS | changes).items() if value is not None}
    Path("turned.yaml").write_text(yaml.safe_dump(content))
    return "turned.yaml"


def test_the_method_and_the_study_say_what_the_experiment_does(lab):
    assert entry.main([said(), "--backbone", "infinity-shapes"]) == 0
    method = load_method("turned", "infinity-shapes")
    assert (method.steering, method.location, method.distance, method.mode) == (
        "BOTH", "ca_block", "MAHALANOBIS", "CONDITIONAL",
    )  # fmt: skip
    assert (method.variant, method.setup) == (1, "lab/setup/one.json")
    study = load_study("turned")
    assert [(run.backbone, run.concept, run.method) for run in study.runs] == [
        ("infinity-shapes", "turned", "none"),
        ("infinity-shapes", "turned", "turned"),
    ]
    assert study.metrics == ("rates",)


@pytest.mark.parametrize(("variant", "source", "target"), [(1, "red", "blue"), (0, "blue", "red")])
def test_the_variant_is_the_class_steered_to(lab, variant, source, target):
    assert entry.main([said(VARIANT=variant), "--backbone", "infinity-shapes"]) == 0
    concept = load_concept("turned")
    assert concept.aim == "learn" and concept.target == {"colour": target}
    assert all(twin == prompt.replace(source, target) != prompt for prompt, twin in concept.pairs())
    table, counts = read_prompts(concept.dataset), load_study("turned").prompts
    for which in ("concept", "retain"):
        rows = select(table, concept.target, which)["prompt"].tolist()
        assert len(rows) == counts[which] and not {*rows} & {*concept.prompts, *concept.retain}
        assert all((source in row) == (which == "concept") and target not in row for row in rows)


def test_a_list_of_setups_is_swept_over(lab):
    assert entry.main([said(EXPERIMENT_SETUP="two.json"), "--backbone", "infinity-shapes"]) == 0
    runs = [run.method for run in load_study("turned").runs]
    assert runs == ["none", "turned@setup_index=0", "turned@setup_index=1"]
    assert method_params(runs[2], "infinity-shapes")["setup_index"] == 1


def test_guidance_and_batch_are_the_backbones(lab):
    assert entry.main([said(CFG=5.0), "--backbone", "infinity-shapes"]) == 0
    settings = load_settings("turned")[1]
    assert (settings.guidance, settings.batch, settings.path) == (5.0, 8, "artifacts/backbones/turned")
    assert load_study("turned").runs[0].backbone == "turned"


def test_the_models_seven_fields_are_a_backbone(lab):
    assert entry.main([said(DATASET="dogs_cats", DATASET_PATH="data/dogs_cats.csv"), "--infinity", "model.yaml"]) == 0
    settings = load_settings("turned")[1]
    assert (settings.release, settings.steps, settings.guidance, settings.batch) == (MODEL, 7, 3.0, 8)
    assert load_concept("turned").target == {"class": "cat"} and load_study("turned").metrics == ("clip_rates",)


def test_a_classifier_and_distances_are_measured(lab):
    assert entry.main([said(CLASSIFIER_WEIGHTS="linear.pth", FID=True), "--backbone", "infinity-shapes"]) == 0
    assert load_study("turned").metrics == ("turned", "frechet")
    content = yaml.safe_load(Path("params/metrics/turned.yaml").read_text())
    assert (content["weights"], content["label"], content["classes"]) == (
        "lab/weights/linear.pth", "colour", ["red", "blue"],
    )  # fmt: skip


def test_clip_measures_a_model_of_no_world(lab):
    assert entry.main([said(FID=True), "--infinity", "model.yaml"]) == 0
    assert load_study("turned").metrics == ("turned", "clip_frechet")
    metric = build(load_params("metrics", "turned"), "turned")
    assert {"red", "blue", "green"} <= set(metric.choices["colour"]) and metric.template == "a photo of a {} shape"


def test_a_saved_baseline_is_not_read_and_that_is_said(lab, caplog):
    assert entry.main([said(UNCHANGED_SAVED="unchanged.pth"), "--backbone", "infinity-shapes"]) == 0
    assert "UNCHANGED_SAVED: unchanged.pth is not read" in caplog.text
    assert load_study("turned").metrics == ("rates",)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"DATASET": "birds"}, "DATASET: Input should be 'dogs_cats' or 'shapes_colors', got 'birds'"),
        ({"DATASET_PATH": "none.json"}, "DATASET_PATH: none.json is missing"),
        ({"DATASET_PATH": "data/dogs_cats.csv"}, "no label 'colour', which shapes_colors has"),
        ({"STEERING_TYPE": "AUDIO"}, "STEERING_TYPE: Input should be 'TEXT', 'VISUAL' or 'BOTH'"),
        ({"STEERING_LOCATION": "sa"}, "STEERING_LOCATION: Input should be 'ffn', 'ca' or 'ca_block'"),
        ({"VARIANT": 2}, "VARIANT: Input should be 0 or 1"),
        ({"VARIANT": None}, "VARIANT: Field required"),
        ({"BATCH_SIZE": 0}, "BATCH_SIZE: Input should be greater than 0"),
        ({"CFG": -1}, "CFG: Input should be greater than or equal to 0"),
        ({"DISTANCE": "COSINE"}, "DISTANCE: Input should be"),
        ({"STEERING_MODE": "NONE"}, "STEERING_MODE: Input should be"),
        ({"EXPERIMENT_DIR": "nowhere"}, "EXPERIMENT_SETUP: nowhere/setup/one.json is missing"),
        ({"EXPERIMENT_SETUP": "three.json"}, "EXPERIMENT_SETUP: lab/setup/three.json is missing"),
        ({"CLASSIFIER_WEIGHTS": "none.pth"}, "CLASSIFIER_WEIGHTS: lab/weights/none.pth is missing"),
        ({"FID": "often"}, "FID: Input should be a valid boolean"),
        ({"GRID_PATH": 3}, "GRID_PATH: Input should be a valid string"),
        ({"STEERING_TYP": "TEXT"}, "unknown key 'STEERING_TYP'; did you mean STEERING_TYPE?"),
    ],
)
def test_every_wrong_field_is_named_and_nothing_is_written(lab, capsys, changes, message):
    assert entry.main([said(**changes), "--backbone", "infinity-shapes"]) == 2
    told = capsys.readouterr().err
    assert message in told and told.count("\n") == 1
    assert not Path("params/studies/turned.yaml").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pn": "1M"}, "model.yaml: infinity_125M_256x256.pth needs pn 0.06M, got 1M"),
        ({"vae_type": 32}, "needs vae_type 16, got 32"),
        ({"layers": 12}, "layers"),
        ({"model_type": None}, "a release needs model_type"),
    ],
)
def test_a_model_that_contradicts_itself_is_named(lab, changes, message):
    content = {key: value for key, value in (MODEL | changes).items() if value is not None}
    Path("model.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(ValueError, match=message):
        read_model("model.yaml")


def test_a_setup_beyond_the_models_scales_is_named(lab):
    Path("lab/setup/one.json").write_text(json.dumps([SETUP, {"scales": {"9": {"layers": [0]}}}]))
    with pytest.raises(ValueError, match=r"one\.json: setup 1: scales: 9 must be 0 to 3"):
        files("turned", read_experiment(said()), "infinity-shapes")


def test_files_of_other_origin_are_left_alone(lab, capsys):
    Path("red.yaml").write_text(Path(said()).read_text())
    before = Path("params/concepts/red.yaml").read_text()
    assert entry.main(["red.yaml", "--backbone", "infinity-shapes"]) == 2
    assert "params/concepts/red.yaml is not of this experiment" in capsys.readouterr().err
    assert Path("params/concepts/red.yaml").read_text() == before and not Path("params/studies/red.yaml").exists()
    assert all(entry.main([said(), "--backbone", "infinity-shapes"]) == 0 for _ in range(2))


def test_the_grid_goes_where_the_experiment_says(lab, capsys):
    assert entry.main([said(), "--grid"]) == 2 and "no grid of turned" in capsys.readouterr().err
    Path("artifacts/figures").mkdir(parents=True)
    Path("artifacts/figures/turned-infinity-shapes-turned-grid-concept.png").write_bytes(b"png")
    assert entry.main([said(), "--grid"]) == 0
    assert Path("lab/results/grid.png").read_bytes() == b"png"


def test_the_linear_classifier_names_the_target(lab, monkeypatch):
    unit = torch.tensor([[1.0, 0], [0, 1], [1, 0]])
    monkeypatch.setattr("stages.metrics.linear.load_clip", lambda path: (None, None))
    monkeypatch.setattr("stages.metrics.linear.embed_samples", lambda model, samples: unit[: len(samples.rows), None])
    torch.save({"weight": torch.eye(2), "bias": torch.zeros(2)}, "linear.pth")
    metric = LinearRates(weights="linear.pth", label="colour", classes=("red", "blue"))
    rows = [{"prompt": "a red circle"}] * 3
    for target, wanted in (("red", [1, 0, 1]), ("blue", [0, 1, 0])):
        samples = Samples(torch.zeros(3, 3, 4, 4), rows, {"colour": target})
        assert metric.features(samples)[:, 0].tolist() == wanted
    with pytest.raises(ValueError, match="classes: no colour 'green'"):
        metric.features(Samples(torch.zeros(3, 3, 4, 4), rows, {"colour": "green"}))


@pytest.mark.parametrize(
    ("state", "message"),
    [([1, 2], "expected one linear layer to 2 classes"), ({"weight": torch.eye(3)}, "got tensors of")],
)
def test_weights_of_another_shape_are_refused(lab, state, message):
    torch.save(state, "other.pth")
    with pytest.raises(ValueError, match=message):
        read_linear("other.pth", 2)
