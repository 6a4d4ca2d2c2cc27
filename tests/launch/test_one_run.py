"""One run at a time in a folder, whatever became of the one before."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stages.launch.one_run import claim, looks

HOLD = """
import sys, time
from pathlib import Path
from stages.launch.one_run import claim
held = claim(Path(sys.argv[1]), [])
print("held", flush=True)
time.sleep(60)
"""
ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the lock files that Snakemake leaves when it is killed."""
    (tmp_path / ".snakemake/locks").mkdir(parents=True)
    (tmp_path / ".snakemake/locks/0.input.lock").write_text("some\n")
    return tmp_path / ".snakemake"


def run(folder: Path) -> subprocess.Popen[str]:
    """Another run, alive."""
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "held\n"
    return other


def test_the_lock_of_a_killed_run_goes_with_the_next_start(folder: Path) -> None:
    other = run(folder)
    (folder / "locks").mkdir()
    (folder / "locks/0.input.lock").write_text("some\n")
    other.kill()
    other.wait()
    held = claim(folder, ["--cores", "1"])
    assert not (folder / "locks").exists()
    assert held.read() == "" and (folder / "alive").read_text() == f"{os.getpid()}\n"


def test_a_second_run_is_refused_with_the_way_out_and_leaves_the_locks_alone(folder: Path) -> None:
    other = run(folder)
    (folder / "locks").mkdir()
    with pytest.raises(ValueError) as caught:
        claim(folder, ["--cores", "1"])
    assert str(caught.value) == (
        f"another run is under way in this folder (process {other.pid}); wait for it, or end it: kill {other.pid}"
    )
    assert (folder / "locks").exists()
    assert claim(folder, ["-n"]) is None and (folder / "locks").exists()
    other.send_signal(signal.SIGTERM)
    other.wait()
    assert claim(folder, []) is not None


def test_a_look_clears_a_dead_lock_and_keeps_nobody_out(folder: Path) -> None:
    assert claim(folder, ["-n"]) is None
    assert not (folder / "locks").exists()
    other = run(folder)
    time.sleep(0)
    other.kill()
    other.wait()


@pytest.mark.parametrize(
    ("options", "looking"),
    [
        (["-n"], True),
        (["-np", "--quiet"], True),
        (["--dry-run"], True),
        (["--lint"], True),
        (["--cores", "1"], False),
        (["-j4", "--config", "study=n"], False),
        (["--unlock"], False),
        (["--touch", "--forceall"], False),
        (["--notemp", "-c", "1"], False),
    ],
)
def test_what_only_looks(options: list[str], looking: bool) -> None:
    assert looks(options) == looking
