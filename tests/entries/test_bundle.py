"""The bundle: one zip that is checked where there is nothing but it."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from stages import bundle
from tests.reporting.published.test_published import published

assert published  # the fixture


@pytest.fixture(scope="module")
def unpacked(published, tmp_path_factory):
    root = tmp_path_factory.mktemp("bundle")
    options = ["--results", str(published[1].parent), "--out", str(root / "one.zip")]
    assert bundle.main(options) == 0
    first = (root / "one.zip").read_bytes()
    assert bundle.main(options) == 0 and (root / "one.zip").read_bytes() == first
    with zipfile.ZipFile(root / "one.zip") as archive:
        archive.extractall(root / "elsewhere")
    return root / "elsewhere"


def run(folder, *words):
    env = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "PALIMPSEST"))}
    done = subprocess.run(
        (sys.executable, *words), cwd=folder, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    return done.returncode, done.stdout.strip()


def test_it_is_verified_elsewhere_by_the_code_in_it(unpacked):
    code, said = run(unpacked, "-c", "import stages; print(stages.__file__)")
    assert code == 0 and Path(said).is_relative_to(unpacked)
    code, said = run(unpacked, "-m", "stages.verify", "results")
    assert code == 0 and "tables of" in said, said
    table = unpacked / "results/out/tables/results.csv"
    kept = table.read_text()
    table.write_text(kept.replace(",target_rate,", ",target_rite,", 1))
    code, said = run(unpacked, "-m", "stages.verify", "results")
    table.write_text(kept)
    assert code == 2 and "results.csv: row" in said


def test_it_has_what_a_reviewer_needs_and_nothing_made(unpacked):
    files = {path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*") if path.is_file()}
    assert {"README.txt", "requirements.lock", "LICENSE", "results/out/study.json"} <= files
    assert {"results/out/report/index.html", "stages/verify.py", "Infinity/__init__.py"} <= files
    lines = (unpacked / "README.txt").read_text().splitlines()
    assert len(lines) == 10 and any("python -m stages.verify results" in line for line in lines)


def test_without_results_it_says_how_to_make_them(tmp_path, capsys):
    assert bundle.main(["--results", str(tmp_path), "--out", str(tmp_path / "x.zip")]) == 2
    assert "make them with stages.publish" in capsys.readouterr().err
    assert not (tmp_path / "x.zip").exists()
