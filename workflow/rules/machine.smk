"""The machine that jobs run on: one run at a time in a folder, what a job asks for, and the process that forks for jobs."""

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger
from snakemake.resources import Resource

from stages.launch import one_run
from stages.launch.fork_server import SERVER
from stages.launch.interrupt import end_quietly
from stages.launch.kept_results import keep_results

# Jobs use this Python, and a progress bar that is not watched in a terminal needs no more than a line in 10 seconds.
shell.prefix(
    f"set -euo pipefail; export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH; "
    + ("" if sys.stderr.isatty() else "export TQDM_MININTERVAL=10; ")
)

LAUNCH = config.get("launch", "python -m")  # what starts a training
GPUS = config.get("gpus", 1)  # that a training takes, one for each process of its launcher
SETTINGS = check.class_fields(check.SETTINGS, "params/backbones")

try:
    ALIVE = one_run.claim(Path(".snakemake"), sys.argv[1:]) if workflow.is_main_process else None
except ValueError as error:
    refuse(error)

if workflow.is_main_process:
    end_quietly(logger)
    keep_results()


def logged(command):
    """A shell command whose two streams are shown and kept in the rule's log."""
    return f"{command} 2>&1 | tee {{log}} >&2"


def memory(share=1.0):
    """MB for a job: a share of what its backbone's file says, more with each attempt."""
    return lambda wildcards, attempt: attempt * asked(wildcards, "memory", share)


def minutes(share=1.0):
    """Minutes for a job: a share of a training's on its backbone, more with each attempt."""
    return lambda wildcards, attempt: attempt * asked(wildcards, "minutes", share)


def asked(wildcards, key, share):
    default = SETTINGS[key].default
    return round(share * load_params("backbones", wildcards.backbone).get(key, default))


def each_attempt(amount):
    """As much as this, and as much again with each attempt."""
    return lambda wildcards, attempt: attempt * amount


# Without a cap Snakemake would start all GPU jobs at once; a profile or `--resources gpu=N` overrides it.
if shutil.which("nvidia-smi"):
    workflow.global_resources.setdefault("gpu", Resource("gpu", 1))


def fork_server():
    """What imports the libraries once for all jobs of a run on this machine; it ends with the pipe that is returned.

    A GPU's jobs are long enough to import by themselves; so does every job if PALIMPSEST_FORK_SERVER is set, to nothing.
    """
    if SERVER in os.environ or workflow.non_local_exec or sys.platform != "linux" or shutil.which("nvidia-smi"):
        return None
    Path("logs").mkdir(exist_ok=True)
    os.environ[SERVER] = str(Path(tempfile.mkdtemp(prefix="palimpsest-")) / "socket")
    command = (sys.executable, "-m", "stages.launch.fork_server", os.environ[SERVER])
    with open("logs/fork_server.log", "w") as log:
        return subprocess.Popen(command, cwd=workflow.basedir, stdin=subprocess.PIPE, stderr=log).stdin


PIPES = []  # open for as long as this run


onstart:
    pulled = any(path.parts[1] != "cache" for path in Path("artifacts").rglob("*.safetensors"))
    stamped = any(path.is_file() for path in Path(".snakemake/metadata").rglob("*"))
    if pulled and not stamped and not workflow.touch:
        raise WorkflowError(
            "artifacts/ was made elsewhere; stamp it first: make restore (snakemake --touch --forceall --cores 1)"
        )
    PIPES.append(fork_server())
