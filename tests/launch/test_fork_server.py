"""The process that imports once for all jobs: the same streams, codes and ends as a job by itself."""

import os
import shutil
import signal
import socket as sockets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import ROOT

ENTRY = """
import colorsys  # something that the fork server lacks
import os, sys, time
from stages.launch.cli import entry

@entry
def main(argv=None):
    print(os.getpid(), os.getcwd(), os.environ["COLOUR"], *sys.argv[1:], flush=True)
    print("aside", file=sys.stderr)
    if "fail" in sys.argv:
        raise RuntimeError("broken")
    if "sleep" in sys.argv:
        time.sleep(60)
    if "nap" in sys.argv:
        time.sleep(4)
    return 7

if __name__ == "__main__":
    sys.exit(main())
"""
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the fork server needs Linux")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A package `stages` with one more entry."""
    shutil.copytree(ROOT / "stages", tmp_path / "stages", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "stages/chore.py").write_text(ENTRY)
    return tmp_path


@pytest.fixture
def server(project: Path) -> Iterator[subprocess.Popen[str]]:
    """A fork server that listens on `socket`."""
    process = started(project)
    yield process
    process.stdin.close()
    assert process.wait(10) == 0
    assert not (project / "run").exists()


def started(project: Path) -> subprocess.Popen[str]:
    (project / "run").mkdir()
    command = (sys.executable, "-m", "stages.launch.fork_server", str(project / "run/socket"))
    process = subprocess.Popen(command, cwd=project, stdin=subprocess.PIPE, text=True)
    wait(lambda: (project / "run/socket").exists())
    return process


def client(project: Path, *words: str, socket: str = "run/socket") -> subprocess.Popen[str]:
    env = {**os.environ, "PALIMPSEST_FORK_SERVER": str(project / socket), "COLOUR": "red", "PYTHONPATH": str(project)}
    command = (sys.executable, "-m", "stages.chore", *words)
    (project / "elsewhere").mkdir(exist_ok=True)
    return subprocess.Popen(
        command, cwd=project / "elsewhere", env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def wait(happens: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not happens():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def test_a_job_keeps_its_streams_folder_environment_arguments_and_code(project, server):
    asked = client(project, "two", "words")
    out, err = asked.communicate(timeout=20)
    pid, *rest = out.split()
    assert rest == [str(project / "elsewhere"), "red", "two", "words"]
    assert err == "aside\n"
    assert asked.returncode == 7
    assert int(pid) != asked.pid  # it ran in a fork of the server
    assert gone(int(pid))


def test_an_error_shows_its_traceback_and_ends_with_one(project, server):
    asked = client(project, "fail")
    _, err = asked.communicate(timeout=20)
    assert "RuntimeError: broken" in err
    assert asked.returncode == 1


def test_jobs_run_at_the_same_time_and_die_with_who_asked(project, server):
    asked = [client(project, "sleep", str(i)) for i in range(2)]
    pids = [int(process.stdout.readline().split()[0]) for process in asked]
    assert [parent_of(pid) for pid in pids] == [server.pid] * 2
    asked[0].send_signal(signal.SIGKILL)
    wait(lambda: gone(pids[0]))
    assert not gone(pids[1])
    os.kill(pids[1], signal.SIGKILL)
    assert asked[1].wait(20) == 128 + signal.SIGKILL


def test_what_one_job_imports_the_next_finds_imported(project, server):
    assert "_sqlite3" not in Path(f"/proc/{server.pid}/maps").read_text()
    chore = project / "stages/chore.py"
    chore.write_text(chore.read_text().replace("import colorsys", "import sqlite3"))
    client(project).communicate(timeout=20)
    wait(lambda: "_sqlite3" in Path(f"/proc/{server.pid}/maps").read_text())


def test_after_an_import_that_starts_a_thread_jobs_run_by_themselves_and_those_under_way_end_well(project):
    (project / "stages/busy.py").write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
    )
    chore = project / "stages/chore.py"
    server = started(project)
    long = client(project, "nap")
    assert parent_of(int(long.stdout.readline().split()[0])) == server.pid
    chore.write_text(chore.read_text().replace("import colorsys", "import stages.busy"))
    client(project).communicate(timeout=20)
    wait(lambda: len(list(Path(f"/proc/{server.pid}/task").iterdir())) > 1)
    alone = client(project)
    out, _ = alone.communicate(timeout=20)
    assert int(out.split()[0]) == alone.pid
    assert long.wait(20) == 7
    assert server.wait(20) == 0


def test_after_an_edit_of_what_was_imported_jobs_run_by_themselves_and_as_edited(project):
    server = started(project)
    for _ in range(2):  # when the second is taken, what the first had to import has been
        client(project).communicate(timeout=20)
    chore = project / "stages/chore.py"
    chore.write_text(chore.read_text().replace("aside", "edited"))
    alone = client(project)
    out, err = alone.communicate(timeout=20)
    assert int(out.split()[0]) == alone.pid
    assert err == "edited\n"
    assert server.wait(20) == 0


def test_jobs_end_with_a_server_that_is_killed(project):
    server = started(project)
    asked = client(project, "sleep")
    pid = int(asked.stdout.readline().split()[0])
    server.kill()
    server.wait()
    _, err = asked.communicate(timeout=20)
    assert told_once(err) and asked.returncode == 1
    wait(lambda: gone(pid))


def test_a_line_that_breaks_after_the_job_was_taken_is_told_too(project):
    (project / "run").mkdir()
    with sockets.socket(sockets.AF_UNIX) as listener:
        listener.bind(str(project / "run/socket"))
        listener.listen(1)
        asked = client(project)
        line, _ = listener.accept()
        line.recv(1)
        line.sendall(b"+")
        line.close()  # with the rest unread: a reset, not an end
    _, err = asked.communicate(timeout=20)
    assert told_once(err) and asked.returncode == 1


def told_once(said: str) -> bool:
    (line,) = [line for line in said.splitlines() if line != "aside"]
    return line.startswith("error: the fork server has ended; ")


@pytest.mark.parametrize("socket", ["run/socket", ""])
def test_without_a_server_a_job_runs_by_itself(project, socket):
    asked = client(project, socket=socket)
    out, _ = asked.communicate(timeout=20)
    assert int(out.split()[0]) == asked.pid
    assert asked.returncode == 7
