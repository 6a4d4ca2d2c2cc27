"""A concept in words out of a small checkpoint: what is written, that it is a study, and what is refused before."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from diffusers import StableDiffusionPipeline

from stages import Erasure, erase, load_backbone, load_run
from stages.params.study import load_study
from stages.store.pictures import read_metadata
from tests import ROOT

OWL = ["--backbone", "tiny", "--words", "owl", "--method", "esd", "--pictures", "2", "--out", "erased"]


@pytest.fixture
def checkpoint(project: Path, clip_folder: str) -> Path:
    """The project with what measures a checkpoint, by a small CLIP."""
    shutil.copy(ROOT / "params/protocol.yaml", "params")
    files = {
        "methods/none": {"class": "stages.methods.none.NoMethod", "trained": False},
        "metrics/clip_rates": {
            "class": "stages.metrics.clip_rates.CLIPRates",
            "model": clip_folder,
            "choices": {"class": ["dog", "cat"]},
        },
        "metrics/clip_score": {"class": "stages.metrics.clip_score.CLIPScore", "model": clip_folder, "draws": 100},
    }
    for name, content in files.items():
        path = Path(f"params/{name}.yaml")
        path.parent.mkdir(exist_ok=True)
        path.write_text(yaml.safe_dump(content))
    return project


def written() -> list[str]:
    """The files of the project that are there now."""
    return sorted(str(path) for path in Path().rglob("*") if path.is_file())


def test_words_become_a_study_pictures_numbers_files_and_a_card(checkpoint: Path, caplog) -> None:
    caplog.set_level("INFO")
    assert erase.main([*OWL, "--kind", "object", "--synonym", "barn owl"]) == 0
    assert caplog.messages[-1] == (
        "erased: README.md, before_after.png, checkpoint, intervention, report.html; the study is "
        "params/studies/owl_tiny_esd.yaml"
    )
    assert "owl seen: " in caplog.messages[-2] and " -> " in caplog.messages[-2]
    study = load_study("owl_tiny_esd")
    assert [run.method for run in study.runs] == ["none", "esd"] and study.metrics == ("clip_owl", "clip_score")
    samples = [Path(f"artifacts/runs/tiny/owl/{method}/0/samples/owl_tiny_esd") for method in ("none", "esd")]
    before, after = ([(row["prompt"], row["seed"]) for row in read_metadata(folder / "concept")] for folder in samples)
    assert before == after and len(before) == 2 and all("owl" in prompt for prompt, _ in before)
    card = Path("erased/README.md").read_text()
    assert yaml.safe_load(card.split("---")[1])["library_name"] == "diffusers"
    assert "guidance=None" not in card
    assert "| owl seen | " in card and 'from_pretrained("checkpoint")' in card and '"steps": 2' in card
    assert "<svg" in Path("erased/report.html").read_text()

    backbone = load_backbone("tiny")
    call = {"seeds": [1], "steps": 3, "guidance": 3.0}
    with load_run(Path("erased/intervention")).attach(backbone):
        wanted = backbone.sample(backbone.encode(["a red circle"]), **call)
    pipe = StableDiffusionPipeline.from_pretrained("erased/checkpoint", safety_checker=None)
    pipe.set_progress_bar_config(disable=True)
    options = {"num_inference_steps": 3, "guidance_scale": 3.0, "output_type": "pt"}
    found = pipe(["a red circle"], latents=backbone.noise([1]), **options).images
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)

    trained = Path("artifacts/runs/tiny/owl/esd/0/record-train.json").read_bytes()
    assert erase.main([*OWL[:-1], "again"]) == 0  # the concept as it stands, the run as it was trained
    assert Path("artifacts/runs/tiny/owl/esd/0/record-train.json").read_bytes() == trained
    content = yaml.safe_load(Path("params/methods/esd.yaml").read_text())
    Path("params/methods/esd.yaml").write_text(yaml.safe_dump(content | {"lr": 0.02}))
    assert erase.main([*OWL[:-1], "other"]) == 2  # a finished run is not trained over
    assert Path("artifacts/runs/tiny/owl/esd/0/record-train.json").read_bytes() == trained


def test_in_python_a_method_that_acts_while_sampling_has_no_other_form(checkpoint: Path) -> None:
    content = {"class": "stages.methods.negative_prompt.NegativePrompt", "trained": False}
    Path("params/methods/quiet.yaml").write_text(yaml.safe_dump(content))
    done = Erasure("tiny", "Van Gogh", "out", kind="style", method="quiet", pictures=2).run()
    assert done.said.startswith("van_gogh seen: ") and done.study == "van_gogh_tiny_quiet"
    assert {path.name for path in done.out.iterdir()} == {
        "README.md",
        "before_after.png",
        "intervention",
        "report.html",
    }
    assert "no form outside this project" in (done.out / "README.md").read_text()
    assert json.loads((done.run / "intervention.json").read_text())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "no concept 'owl' yet: say what it is with --kind; have: object, style"),
        (["--kind", "animal"], "no kind 'animal'; have: object"),
        (["--kind", "object", "--method", "esdd"], "no method 'esdd'; did you mean esd?"),
        (["--kind", "object", "--method", "none"], "none erases nothing by itself"),
        (["--kind", "object", "--backbone", "tinny"], "no backbone 'tinny'; did you mean tiny?"),
        (["--kind", "object", "--pictures", "0"], "--pictures must be 1 or more"),
        (["--kind", "object", "--name", "../owl"], "concept name '../owl' must be"),
        (["--kind", "object", "--name", "red"], "params/concepts/red.yaml is there already and says something else"),
        (["--kind", "object", "--words", "猫"], "makes no file's name; give one with --name"),
        (["--kind", "object", "--out", "full"], "full is not empty"),
        (["--name", "red"], "no metric of params/metrics/ can tell what the target of params/concepts/red.yaml asks"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(checkpoint: Path, capsys, options, message) -> None:
    Path("full").mkdir()
    Path("full/mine").write_text("x")
    before = written()
    assert erase.main([*OWL, *options]) == 2
    assert message in capsys.readouterr().err
    assert written() == before


def test_weights_and_measures_that_are_missing_are_refused_before_anything_is_written(checkpoint, capsys) -> None:
    content = yaml.safe_load(Path("params/metrics/clip_rates.yaml").read_text())
    Path("params/metrics/clip_rates.yaml").write_text(yaml.safe_dump(content | {"model": "nowhere/clip"}))
    before = written()
    assert erase.main([*OWL, "--kind", "object"]) == 2
    assert "nowhere/clip" in capsys.readouterr().err and written() == before
    Path("params/metrics/clip_rates.yaml").write_text(yaml.safe_dump(content))
    shutil.rmtree("artifacts/backbones/tiny")
    before = written()
    assert erase.main([*OWL, "--kind", "object"]) == 2
    assert "artifacts/backbones/tiny" in capsys.readouterr().err and written() == before
