"""A run that is killed or interrupted, and the one after it: real Snakemake on rules of a moment."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SNAKEFILE = """
import sys
from pathlib import Path
from snakemake.logging import logger
sys.path.insert(0, {root!r})
from stages.launch.interrupt import end_quietly
from stages.launch.one_run import claim

if workflow.is_main_process:
    try:
        ALIVE = claim(Path(".snakemake"), sys.argv[1:])
    except ValueError as error:
        print(f"error: {{error}}", file=sys.stderr)
        raise SystemExit(2)
    end_quietly(logger)

rule all:
    output:
        "result.txt",
    shell:
        "touch started; sleep {{config[seconds]}}; echo done > {{output}}"
"""


def start(folder: Path, seconds: float) -> subprocess.Popen[str]:
    (folder / "Snakefile").write_text(SNAKEFILE.format(root=str(ROOT)))
    (folder / "started").unlink(missing_ok=True)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.Popen(
        ["snakemake", "--cores", "1", "--rerun-incomplete", "--config", f"seconds={seconds}"],
        cwd=folder,
        env={**os.environ, "PATH": path, "XDG_CACHE_HOME": str(folder / ".cache")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def wait(folder: Path) -> None:
    deadline = time.monotonic() + 60
    while not (folder / "started").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_after_kill_9_the_same_command_goes_on(tmp_path: Path) -> None:
    killed = start(tmp_path, 50)
    wait(tmp_path)
    second = start(tmp_path, 0)
    said, _ = second.communicate(timeout=60)
    assert second.returncode == 2 and f"error: another run is under way in this folder (process {killed.pid})" in said
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    assert list((tmp_path / ".snakemake/locks").iterdir())
    after = start(tmp_path, 0)
    said, _ = after.communicate(timeout=60)
    assert after.returncode == 0, said
    assert (tmp_path / "result.txt").read_text() == "done\n"


@pytest.mark.parametrize("early", [True, False], ids=["while it starts", "while a job runs"])
def test_an_interrupt_says_one_line_and_leaves_no_lock(tmp_path: Path, early: bool) -> None:
    run = start(tmp_path, 50)
    if early:
        while not (tmp_path / ".snakemake/alive").exists():
            time.sleep(0.02)
        time.sleep(0.3)
    else:
        wait(tmp_path)
    os.killpg(run.pid, signal.SIGINT)
    said, _ = run.communicate(timeout=60)
    assert run.returncode != 0
    assert said.count("stopped; the same command goes on where this one was") == 1
    assert "Error" not in said and "Traceback" not in said and "Exception" not in said, said
    assert not any((tmp_path / ".snakemake/locks").glob("*"))
