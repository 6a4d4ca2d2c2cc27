"""The rule `tune`: a job for each method and architecture of the protocol, and one line for what cannot be searched."""

import re

import pytest
import yaml

from stages.params.protocol import load_protocol
from stages.tuning.side import searches
from tests.workflow.conftest import ROOT, Project

PARAMS = ROOT / "params"
PROTOCOL = load_protocol(PARAMS)


def test_a_dry_run_lists_a_search_for_each_architecture_and_what_it_needs(project: Project) -> None:
    jobs, shown = project.plan("--printshellcmds", "tune", "--config", "tune=esd_x")
    assert jobs["search"] == len(PROTOCOL.searches) and jobs["tune"] == 1
    assert jobs["pretrain"] == len({side.backbone for side in PROTOCOL.searches.values()})
    assert not {"train", "sample", "evaluate", "report"} & set(jobs)
    for side in PROTOCOL.searches.values():
        wanted = (
            f"--method esd_x --backbone {side.backbone} --metric {side.metric} --concepts {' '.join(side.concepts)}"
        )
        assert f"python -m stages.tune search {wanted}" in shown


def test_every_method_with_a_space_is_searched_without_a_name(project: Project) -> None:
    assert project.plan("--printshellcmds", "tune")[0]["search"] == len(searches(PROTOCOL, root=PARAMS))
    assert project.plan("--printshellcmds", "tune", "--config", "tune=[uce,flowedit]")[0]["search"] == len(
        searches(PROTOCOL, ["uce", "flowedit"], PARAMS)
    )


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ("word_filter", "error: nothing is searched of word_filter: a reference that costs nothing has no setting"),
        ("esdd", "error: no method 'esdd'; did you mean esd? have: "),
    ],
)
def test_what_cannot_be_searched_is_said_in_one_line(project: Project, asked: str, says: str) -> None:
    done = project.run("snakemake", "-n", "tune", "--config", f"tune={asked}")
    assert done.returncode == 2
    (line,) = [line for line in done.stdout.splitlines() if "error" in line]
    assert line.startswith(says)


def test_a_study_asks_for_no_search(project: Project) -> None:
    assert not {"search", "tune"} & set(project.plan()[0])


def test_a_changed_space_asks_again_and_a_comment_does_not(project: Project) -> None:
    (side, *_) = PROTOCOL.searches.values()
    files = [f"artifacts/tuning/{side.backbone}/uce/{name}" for name in ("summary.json", "trials.csv")]
    path = project.root / "params/tuning/uce.yaml"

    def parameters() -> str:
        shown = project.snakemake("-n", files[0], "--printshellcmds", "--snakefile", "show.smk")
        return re.findall(r"^ASKED (.*)$", shown, re.MULTILINE)[0]

    (project.root / "show.smk").write_text(
        'include: "Snakefile"\n'
        "from types import SimpleNamespace\n"
        f'print("ASKED", search_params(SimpleNamespace(method="uce", backbone="{side.backbone}")))\n'
    )
    before = parameters()
    path.write_text(f"# another comment\n{path.read_text()}")
    assert parameters() == before
    project.edit("params/tuning/uce.yaml", "0.05", "0.06")
    assert parameters() != before


def test_dvc_keeps_the_searches_and_runs_none_by_itself() -> None:
    (stage,) = yaml.safe_load((ROOT / "workflow/tuning/dvc.yaml").read_text())["stages"].values()
    assert stage["outs"] == [{"artifacts/tuning": {"persist": True}}] and stage["wdir"] == "../.."
    assert {"Snakefile", "params", "stages", "data"} <= set(stage["deps"])
    assert not any(
        "tune" in str(other["cmd"]) for other in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].values()
    )
