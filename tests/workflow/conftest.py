"""A throw-away copy of the project, whose artifacts are empty files that Snakemake believes in."""

import os
import shutil
import subprocess
import sys
from functools import cached_property
from pathlib import Path

import pytest

from tests import ROOT

DEMO = Path(__file__).parent / "demo.yaml"
PARTS = ("Snakefile", "profiles", "workflow", "params", "data", "stages", "dvc.yaml")


class Project:
    """A copy of the project and the command line in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for part in PARTS:
            source, copy = ROOT / part, root / part
            if source.is_symlink():
                copy.symlink_to(source.readlink())
            elif source.is_dir():
                shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, copy)
        shutil.copy(DEMO, root / "params/studies/demo.yaml")

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """The finished command, both streams in `stdout`."""
        bin_path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        env = {**os.environ, "PATH": bin_path, "XDG_CACHE_HOME": str(self.root / ".cache")}
        env.pop("SNAKEMAKE_PROFILE", None)
        return subprocess.run(
            words, cwd=self.root, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
        )

    def snakemake(self, *words: str) -> str:
        """What a Snakemake run that ends well says."""
        done = self.run("snakemake", *words)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def plan(self, *words: str) -> tuple[dict[str, int], str]:
        """How often each rule would run, and all that a dry run says."""
        shown = self.snakemake("-n", "--quiet", "host", *words)
        rows = [line.split() for line in shown.splitlines()]
        counts = {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[0].isidentifier() and row[1].isdigit()}
        counts.pop("total", None)
        return counts, shown

    @cached_property
    def files(self) -> dict[str, tuple[str, list[str]]]:
        """Every output of the study: its rule and, once they are made, the inputs of that rule."""
        lines = self.snakemake("--detailed-summary").splitlines()
        start = next(i for i, line in enumerate(lines) if line.startswith("output_file\t"))
        rows = [line.split("\t") for line in lines[start + 1 :] if "\t" in line]
        return {row[0]: (row[2], [path for path in row[4].split(",") if path]) for row in rows}

    def edit(self, path: str, old: str, new: str) -> None:
        """One replacement in a file that must hold the text."""
        text = (self.root / path).read_text()
        assert old in text, f"{path} lacks {old!r}"
        (self.root / path).write_text(text.replace(old, new, 1))


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A fresh clone: nothing made."""
    return Project(tmp_path)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A clone whose default study is finished, so far as Snakemake can tell."""
    project = Project(tmp_path_factory.mktemp("made"))
    for name in project.files:
        path = project.root / name
        if path.suffix:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)
        else:
            path.mkdir(parents=True, exist_ok=True)
    project.snakemake("--touch", "--forceall", "--cores", "1", "--quiet")
    del project.files  # now Snakemake knows what they were made from
    return project
