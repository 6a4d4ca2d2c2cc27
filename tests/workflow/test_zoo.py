"""The zoo in the workflow: trained from nothing on request, taken by default if it has an entry, else as before."""

import json
from dataclasses import asdict

import pytest
import yaml

from stages.params import load_params
from stages.params.zoo import BACKBONE, Entry, Stored, digest_of, listed, part_recipe, recipe_of
from tests.workflow.conftest import ROOT, Project


def entry(kind, recipe):
    files = {"model_index.json": Stored("0" * 64, 1, "x", None)}
    return asdict(
        Entry(kind, "shapes", recipe, digest_of(recipe), 0, None, {}, 1, 1.0, {}, "float16", 0.0, (), (), files)
    )


@pytest.fixture
def stocked(project: Project) -> Project:
    """A clone whose zoo has the autoencoder of the world and one of its backbones."""
    entries = {
        "shapes-autoencoder": entry("autoencoder", part_recipe("shapes", "autoencoder")),
        "sd-shapes": entry(BACKBONE, recipe_of(load_params("backbones", "sd-shapes", ROOT / "params"))),
    }
    (project.root / "data/zoo").mkdir(parents=True, exist_ok=True)
    (project.root / "data/zoo/manifest.json").write_text(json.dumps({"format": 1, "entries": entries}))
    return project


def commands(project: Project, *words: str) -> list[str]:
    """The commands that make parts of worlds and backbones."""
    shown = project.plan("--printshellcmds", *words)[1]
    return [line.strip() for line in shown.splitlines() if "stages.pretrain" in line]


def test_the_zoo_is_trained_from_nothing(stocked: Project) -> None:
    jobs, _ = stocked.plan("--printshellcmds", "zoo")
    every = listed(ROOT / "params")
    backbones = sum(one.kind == BACKBONE for one in every)
    assert jobs == {"zoo_part": len(every) - backbones, "zoo_backbone": backbones, "zoo_figures": backbones, "zoo": 1}
    found = commands(stocked, "zoo")
    assert len(found) == len(every) and not any("--zoo" in line for line in found)
    assert all("--worlds artifacts/zoo/worlds" in line for line in found if " backbone " in line)


def test_a_study_takes_what_the_zoo_has_and_trains_the_rest(stocked: Project) -> None:
    found = commands(stocked)
    taken = [line for line in found if "--zoo data/zoo" in line]
    assert len(found) > len(taken) == 2
    assert any("backbone --backbone sd-shapes " in line for line in taken)
    assert any("autoencoder --world shapes " in line for line in taken)
    for word in ("zoo=false", "zoo=False"):
        assert not any("--zoo" in line for line in commands(stocked, "--config", word))
    assert "is not one of" in stocked.run("snakemake", "-n", "--config", "zoo=no").stdout


def test_a_backbone_whose_file_has_changed_is_trained(stocked: Project) -> None:
    path = stocked.root / "params/backbones/sd-shapes.yaml"
    content = yaml.safe_load(path.read_text())
    content["pretrain"]["steps"] += 1
    path.write_text(yaml.safe_dump(content))
    assert not any("sd-shapes" in line and "--zoo" in line for line in commands(stocked))
    shown = stocked.run("snakemake", "-n", "--quiet").stdout.splitlines()
    (line,) = [line for line in shown if line.startswith("warning: ")]
    assert "sd-shapes is trained here: the zoo's was trained with another pretrain.steps" in line
    assert "warning: sd" not in stocked.run("snakemake", "-n", "--config", "zoo=false").stdout


def test_without_a_zoo_everything_is_as_before(project: Project) -> None:
    (project.root / "data/zoo").mkdir(parents=True, exist_ok=True)
    for path in (project.root / "data/zoo").rglob("manifest.json"):
        path.unlink()
    assert not any("--zoo" in line for line in commands(project))


def test_a_damaged_manifest_is_one_line_before_anything_runs(stocked: Project) -> None:
    path = stocked.root / "data/zoo/manifest.json"
    path.write_text(path.read_text()[:-9])
    done = stocked.run("snakemake", "-n")
    assert done.returncode == 2
    (line,) = [line for line in done.stdout.splitlines() if "error" in line]
    assert "manifest.json is damaged" in line and "git checkout" in line


def test_a_wrong_list_stops_the_zoo_alone(project: Project) -> None:
    project.edit("params/zoo.yaml", "- sd-shapes", "- sd-shape")
    assert "did you mean sd-shapes?" in project.run("snakemake", "-n", "zoo").stdout
    assert project.plan()[0]["all"] == 1


def test_dvc_keeps_the_zoo_in_a_pipeline_of_its_own() -> None:
    stages = yaml.safe_load((ROOT / "workflow/zoo/dvc.yaml").read_text())["stages"]
    assert stages["zoo"]["cmd"].endswith(" zoo") and stages["zoo"]["outs"] == [{"artifacts/zoo": {"persist": True}}]
