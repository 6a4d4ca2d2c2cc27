"""A process that has imported the libraries once, and forks for every job that asks it to.

Importing torch, diffusers and transformers takes five seconds, more than many a job on the small worlds works. So the
Snakefile starts this process beside a run on one machine without a GPU and names its socket in PALIMPSEST_FORK_SERVER.
What one job had to import, the next finds imported. Without the variable, or an answer, a job imports by itself.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import select
import signal
import socket
import sys
import traceback
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.launch.environment import BEGUN, begun, environment

SERVER = "PALIMPSEST_FORK_SERVER"
OURS = ("stages", "Infinity")
TAKEN = b"+"
DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG


def handed_over() -> int | None:
    """This command's exit code after the fork server ran it; None if there is none, and the caller has to go on.

    If that process is killed meanwhile, the job has failed, and one line says so.
    """
    path, entry = os.environ.pop(SERVER, ""), getattr(sys.modules["__main__"], "__spec__", None)
    if not path or entry is None or not entry.name.startswith("stages."):
        return None
    request = {"module": entry.name, "argv": sys.argv, "cwd": os.getcwd(), "env": dict(os.environ), "begun": begun()}
    with socket.socket(socket.AF_UNIX) as line:
        try:
            line.connect(path)
            socket.send_fds(line, [json.dumps(request).encode() + b"\n"], [0, 1, 2])
            if line.recv(1) != TAKEN:
                return None
        except OSError:
            return None
        try:
            answer = line.recv(1)
        except OSError:
            answer = b""
    if answer:
        return answer[0]
    sys.stderr.write(f"error: the fork server has ended; {SERVER}= (set to nothing) runs every job by itself\n")
    return 1


@dataclass
class Job:
    """One forked command: who asked, how it is watched, and what it says it had to import."""

    pid: int
    line: socket.socket
    watch: int
    imported: int


def main() -> int:
    """Serves on the socket until standard input, which the process that started this one holds open, is closed."""
    path = sys.argv[1]
    environment(threads=1)  # a process that forks must have no threads, of OpenBLAS neither
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the jobs and for whoever holds standard input
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(64)
        try:
            serve(listener)
        finally:
            Path(path).unlink()
            Path(path).parent.rmdir()
    return 0


def serve(listener: socket.socket) -> None:
    """Takes requests, tells the ends of jobs, and kills the job whose client has gone.

    Once a library that was imported runs a thread, no more are taken: a fork would copy locks that nobody opens. Nor
    are they once a module of ours that was imported has been edited: a fork would run what it said before.
    """
    poll, known = select.poll(), dict[str, int]()
    jobs, asked = dict[int, Job](), dict[int, Job]()  # by the descriptor that tells of their end, and of their client's
    poll.register(sys.stdin.fileno(), select.POLLIN)
    poll.register(listener, select.POLLIN)
    while jobs or listener.fileno() >= 0:
        for descriptor, _ in poll.poll():
            if descriptor == sys.stdin.fileno():
                return
            if descriptor == listener.fileno() and (threads() > 1 or edited(known)):
                poll.unregister(listener)
                listener.close()
            elif descriptor == listener.fileno():
                job = start(listener, [job.line for job in jobs.values()])
                jobs[job.watch], asked[job.line.fileno()] = job, job
                poll.register(job.watch, select.POLLIN)
                poll.register(job.line, 0)  # a hang-up is told in any case, and nothing else is wanted
            elif descriptor in jobs:
                job = jobs.pop(descriptor)
                poll.unregister(job.watch)
                if asked.pop(job.line.fileno(), None):
                    poll.unregister(job.line)
                finish(job)
                edited(known)
            elif descriptor in asked:
                poll.unregister(descriptor)
                os.kill(asked.pop(descriptor).pid, signal.SIGKILL)


def threads() -> int:
    """How many this process has."""
    return len(os.listdir("/proc/self/task"))


def edited(known: dict[str, int]) -> bool:
    """Whether a module of ours was written after it was imported; `known` gets the times of those not yet in it."""
    for name, module in list(sys.modules.items()):
        path = getattr(module, "__file__", None) if name.partition(".")[0] in OURS else None
        if path is not None:
            try:
                written = os.stat(path).st_mtime_ns
            except FileNotFoundError:
                written = -1
            if known.setdefault(name, written) != written:
                return True
    return False


def start(listener: socket.socket, others: Iterable[socket.socket]) -> Job:
    """Forks for the next request."""
    line, _ = listener.accept()
    imported = os.memfd_create("imported")
    pid = os.fork()
    if pid:
        return Job(pid, line, os.pidfd_open(pid), imported)
    code = 1
    try:
        ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for other in (listener, *others):
            other.close()
        known = set(sys.modules)
        code = run(line)
        with os.fdopen(imported, "w") as names:
            names.write("\n".join(name for name in sys.modules if name not in known))
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def run(line: socket.socket) -> int:
    """The request's command with its own streams, folder and environment; its exit code."""
    first, streams, *_ = socket.recv_fds(line, 1 << 16, 3)
    line.sendall(TAKEN)
    while not first.endswith(b"\n"):
        first += line.recv(1 << 16)
    request: dict[str, Any] = json.loads(first)
    for standard, stream in enumerate(streams):
        os.dup2(stream, standard)
        os.close(stream)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"] | {BEGUN: str(request["begun"])})
    sys.argv = request["argv"]
    try:
        return importlib.import_module(request["module"]).main(sys.argv[1:])
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def finish(job: Job) -> None:
    """Tells the client the exit code, then imports what this job had to import, for those to come."""
    _, status = os.waitpid(job.pid, 0)
    code = os.waitstatus_to_exitcode(status)
    with suppress(OSError):  # the client may be gone
        job.line.sendall(bytes([code if code >= 0 else 128 - code]))
    job.line.close()
    os.close(job.watch)
    os.lseek(job.imported, 0, os.SEEK_SET)
    with os.fdopen(job.imported) as names:
        for name in names.read().split("\n"):
            with suppress(Exception):  # names without a file of their own, or extras that are not installed
                importlib.import_module(name)


if __name__ == "__main__":
    sys.exit(main())
