"""What a method's jobs are compared by: all layers of its fields, and those and the code of one fitted within it."""

import json

import pytest

from tests.workflow.conftest import Project


def compared(project: Project, method: str, backbone: str = "sd-shapes") -> str:
    """What the method's jobs are compared by on a backbone, as JSON: parameters and files."""
    (project.root / "show.smk").write_text(
        'include: "Snakefile"\n'
        "import json\n"
        "from types import SimpleNamespace\n"
        f'job = SimpleNamespace(method="{method}", backbone="{backbone}", concept="red")\n'
        "print(json.dumps([train_params(job), method_files(job)]))\n"
    )
    shown = project.snakemake("-n", "--snakefile", "show.smk", "--quiet", "--config", "study=smoke")
    return next(line for line in shown.splitlines() if line.startswith("["))


@pytest.mark.parametrize(
    ("method", "within", "old", "new"),
    [
        (
            "random_weights",
            "params/tuned/uce.yaml",
            "sd: {tokens: aligned, ridge: 2.0",
            "sd: {tokens: aligned, ridge: 3.0",
        ),
        ("random_direction", "stages/methods/mean_difference.py", "strength: float = 1.0", "strength: float = 2.0"),
    ],
)
def test_a_change_of_the_method_within_runs_the_method_again(
    project: Project, method: str, within: str, old: str, new: str
) -> None:
    before = compared(project, method)
    project.edit(within, old, new)
    assert compared(project, method) != before


def test_tables_of_the_method_within_are_watched(project: Project) -> None:
    project.edit("params/methods/uce.yaml", "tokens: last", "tokens: last\ndata: data/fitting/{concept}.csv")
    _, files = json.loads(compared(project, "random_weights"))
    assert files == ["data/fitting/red.csv"]


@pytest.mark.parametrize(
    ("path", "old", "new", "backbone", "other"),
    [
        ("params/tuned/esd_x.yaml", "steps: 60, lr: 3.0e-4", "steps: 60, lr: 4.0e-4", "infinity-shapes", "sd-shapes"),
        ("params/adapted/esd_x.yaml", "{states: frozen}", "{states: frozen, steps: 9}", "infinity-2b", "sd14"),
    ],
)
def test_a_row_of_a_layer_runs_the_method_again_on_its_own_backbones_alone(
    project: Project, path: str, old: str, new: str, backbone: str, other: str
) -> None:
    before = [compared(project, "esd_x", name) for name in (backbone, other)]
    project.edit(path, old, new)
    own, others = (compared(project, "esd_x", name) for name in (backbone, other))
    assert own != before[0] and others == before[1]
