"""DVC's stages: what they depend on covers what their jobs read, and what they keep covers what their jobs write."""

from pathlib import Path

import pytest
import yaml

from stages.params import names
from tests.workflow.conftest import ROOT, Project

DVC = yaml.safe_load((ROOT / "dvc.yaml").read_text())
RULES = {  # the rules whose jobs a stage is the first to ask for
    "prompts": {"prepare"},
    "backbones": {"part", "pretrain"},
    "study": {"precompute", "fit_and_sample", "train", "binarize", "sample", "attack", "evaluate", "report"},
}
PARSED = {"Snakefile", "params", "stages", "workflow"}  # read by every Snakemake run


def outs(stage: str) -> list[str]:
    return [path for out in DVC["stages"][stage]["outs"] for path in out]


def inside(path: str, folders: list[str]) -> bool:
    return any(Path(path).is_relative_to(folder) for folder in folders)


def test_every_rule_belongs_to_one_stage(made: Project) -> None:
    assert {rule for rule, _ in made.files.values()} <= set().union(*RULES.values())
    assert sum(map(len, RULES.values())) == len(set().union(*RULES.values()))


@pytest.mark.parametrize("stage", RULES)
def test_a_stage_keeps_what_its_jobs_write_and_depends_on_what_they_read(made: Project, stage: str) -> None:
    deps = DVC["stages"][stage]["deps"]
    assert set(deps) >= PARSED
    made_here = {path: reads for path, (rule, reads) in made.files.items() if rule in RULES[stage]}
    assert made_here
    for path, reads in made_here.items():
        assert inside(path, outs(stage)), f"{stage} does not keep {path}"
        for source in reads:
            assert inside(source, deps + outs(stage)), f"{stage} reads {source} and does not depend on it"


@pytest.mark.parametrize("stage", DVC["stages"])
def test_what_a_stage_makes_stays_between_its_runs(stage: str) -> None:
    assert all(settings == {"persist": True} for out in DVC["stages"][stage]["outs"] for settings in out.values())


def test_no_stage_names_a_backbone_or_a_study() -> None:
    parts = {part for stage in DVC["stages"] for path in outs(stage) for part in Path(path).parts}
    assert not parts & {*names("backbones", ROOT / "params"), *names("studies", ROOT / "params")}


def test_a_study_without_a_world_leaves_no_stage_without_its_outputs(project: Project) -> None:
    content = yaml.safe_load((project.root / "params/studies/demo.yaml").read_text())
    cells = [{"backbones": ["sd14"], "concepts": ["dog"], "methods": ["none"]}]
    (project.root / "params/studies/demo.yaml").write_text(
        yaml.safe_dump(content | {"cells": cells, "metrics": ["clip_score"]})
    )
    for stage in ("sources", "prompts", "backbones"):
        for command in [DVC["stages"][stage]["cmd"]] if stage == "prompts" else DVC["stages"][stage]["cmd"]:
            done = project.run("bash", "-c", command.replace("--cores all", "--cores 1"))
            assert done.returncode == 0, done.stdout
        assert all((project.root / path).is_dir() for path in outs(stage))


def test_shown_metrics_and_plots_are_kept_by_a_stage() -> None:
    kept = [path for stage in DVC["stages"] for path in outs(stage)]
    scatter, figures = DVC["plots"]
    (table,) = scatter["erasure and preservation"]["y"]
    assert all(inside(path, kept) for path in [*DVC["metrics"], table, figures])
    assert all((ROOT / path).is_file() for path in DVC["params"])


def test_dvc_reads_the_stages(project: Project) -> None:
    project.run("dvc", "init", "--no-scm")
    done = project.run("dvc", "stage", "list", "--name-only")
    assert done.returncode == 0, done.stdout
    assert set(done.stdout.split()) >= set(RULES)
