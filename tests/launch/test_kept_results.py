"""A value that a job refuses costs no finished result, and is not taken for what made it: real Snakemake."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SNAKEFILE = """
import sys
sys.path.insert(0, {root!r})
from stages.launch.kept_results import keep_results
keep_results()

rule all:
    input:
        "table.txt",

rule table:
    input:
        "result.txt",
    output:
        "table.txt",
    shell:
        "cp {{input}} {{output}}"

rule train:
    output:
        update("result.txt"),
        update("record.txt"),
    params:
        train=config["train"],
    shell:
        "echo {{params.train}} > part; [ {{params.train}} != torn ] || mv part {{output[1]}}; "
        "[ {{params.train}} = x -o {{params.train}} = u ]; cp part part2; mv part {{output[0]}}; mv part2 {{output[1]}}"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "Snakefile").write_text(SNAKEFILE.format(root=str(ROOT)))
    return tmp_path


def snakemake(folder: Path, train: str, *options: str) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["snakemake", *(options or ("--cores", "1", "--rerun-incomplete")), "--config", f"train={train}"],
        cwd=folder,
        env={**os.environ, "PATH": path, "XDG_CACHE_HOME": str(folder / ".cache")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def read(folder: Path) -> list[str]:
    return [(folder / name).read_text().strip() for name in ("result.txt", "record.txt", "table.txt")]


@pytest.mark.parametrize("refused", ["xx", "torn"])
def test_a_refused_value_leaves_the_result_and_is_refused_again(folder: Path, refused: str) -> None:
    assert snakemake(folder, "x").returncode == 0
    before = [(folder / name).stat().st_mtime_ns for name in ("result.txt", "record.txt")]
    for _ in range(2):  # the second run must not take the old result for what the refused value made
        assert snakemake(folder, refused).returncode == 1
        assert read(folder) == ["x", "x", "x"]
    assert [(folder / name).stat().st_mtime_ns for name in ("result.txt", "record.txt")] == before
    assert "Nothing to be done" in snakemake(folder, "x", "-n").stdout  # the old value costs no second training
    assert snakemake(folder, "u").returncode == 0
    assert read(folder) == ["u", "u", "u"]
    assert not [path for path in (folder / ".snakemake/backups").rglob("*") if path.is_file()]
