"""What a method that fits another one within its own training is compared by: the fields and the code of both."""

import json

import pytest

from tests.workflow.conftest import Project


def compared(project: Project, method: str) -> str:
    """What the method's jobs are compared by on sd-shapes, as JSON: parameters and files."""
    (project.root / "show.smk").write_text(
        'include: "Snakefile"\n'
        "import json\n"
        "from types import SimpleNamespace\n"
        f'job = SimpleNamespace(method="{method}", backbone="sd-shapes", concept="red")\n'
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
