"""The study, checked before anything runs, and what the rules share."""

import fcntl
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.resources import Resource

sys.path.insert(0, workflow.basedir)

# Jobs use this Python, and a progress bar that is not watched in a terminal needs no more than a line in 10 seconds.
shell.prefix(
    f"set -euo pipefail; export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH; "
    + ("" if sys.stderr.isatty() else "export TQDM_MININTERVAL=10; ")
)

from stages import params
from stages.launch import fork_server as warm
from stages.params import canonical, check, names, source
from stages.params import study as studies

load_params, method_params = cache(params.load_params), cache(params.method_params)  # thousands of jobs, few files
code = cache(source.code)


def refuse(error):
    """End with the one line that says what is wrong with the parameters."""
    print(f"error: {error}", file=sys.stderr)
    raise SystemExit(2)


try:
    check.check_schema(config, "pipeline", "params/pipeline.yaml")
    STUDY = studies.load_study(config["study"])
except ValueError as error:
    refuse(error)


def method_file(name):
    """What a method's file says; nothing for a file in disorder, which stops only the studies that ask for it."""
    try:
        return load_params("methods", name)
    except ValueError:
        return {}


METHODS = {name: method_file(name) for name in [*names("methods"), *(run.method for run in STUDY.runs)]}


LAUNCH = config.get("launch", "python -m")  # what starts a training
GPUS = config.get("gpus", 1)  # that a training takes, one for each process of its launcher
RUN = "artifacts/{backbone}/{concept}/{method}/{seed}"
SAMPLES = f"{RUN}/samples/{STUDY.name}"
METRICS = f"{RUN}/metrics/{STUDY.name}"
SAMPLE_FILES = (*(f"{prompts}/metadata.jsonl" for prompts in STUDY.prompts), "record-sample.json")
INTERVENTION = ("intervention.safetensors", "intervention.json")
BASELINE = "none"  # edits nothing: every method is compared with its samples
ORACLE = "oracle"  # learns from the world itself, not from the backbone's trajectories
WORLD = "stages.worlds.shapes.Shapes"


UNTRAINED = [name for name, content in METHODS.items() if content.get("trained") is False]
BINARIZED = [name for name, content in METHODS.items() if content.get("class") == "stages.methods.binarized.Binarized"]


def one_of(names):
    """A pattern that matches these names and nothing else."""
    return "|".join(map(re.escape, names)) or "(?!)"


wildcard_constraints:
    backbone=one_of(names("backbones")),
    concept=one_of(names("concepts")),
    method=one_of(name for name in METHODS if name not in UNTRAINED),
    world="[a-z0-9_-]+",
    seed="[0-9]+",


def world_of(wildcards):
    """The world a backbone is trained on here, or None for a finished checkpoint."""
    return load_params("backbones", wildcards.backbone).get("world")


def made_backbone(wildcards):
    """The record of a backbone trained here; its other files may be equal after a training that was not."""
    return f"artifacts/backbones/{wildcards.backbone}/record-pretrain.json" if world_of(wildcards) else []


def frozen_backbone(wildcards):
    """The backbone that a method edits; the oracle learns beside it."""
    return [] if wildcards.method == ORACLE else made_backbone(wildcards)


def made_autoencoder(wildcards):
    """What turns the world's pictures into a backbone's latents or bits."""
    part = load_params("backbones", wildcards.backbone).get("autoencoder", "autoencoder")
    return f"artifacts/worlds/{world_of(wildcards)}/{part}/record-pretrain.json"


def made_judge(wildcards):
    return f"artifacts/worlds/{world_of(wildcards)}/judge/judge.safetensors" if world_of(wildcards) else []


def lessons(wildcards):
    """What a method learns from."""
    if wildcards.method == ORACLE:
        return made_autoencoder(wildcards)
    return f"artifacts/{wildcards.backbone}/{wildcards.concept}/latents.safetensors"


def own_files(wildcards):
    """The files that a method's fields name (pictures of a new word, a setup, data), and those in folders they name."""
    values = method_params(wildcards.method, wildcards.backbone).values()
    named = [Path(value) for value in values if isinstance(value, str) and ("/" in value or Path(value).suffix)]
    inside = [file for path in named if os.path.isdir(path) for file in path.iterdir()]
    return sorted(str(path) for path in (*named, *inside) if os.path.isfile(path))  # False for a long sentence, too


def trained_masks(wildcards):
    """The run whose masks a binarized method takes."""
    of = method_params(wildcards.method, wildcards.backbone).get("of", "minimalist")
    return f"{RUN}/intervention.safetensors".format(**dict(wildcards.items()) | {"method": of})


def trained_run(wildcards):
    """The saved intervention of a run, beside its samples where it was fitted there."""
    folder = SAMPLES if wildcards.method in UNTRAINED else RUN
    return f"{folder}/{INTERVENTION[0]}".format(**dict(wildcards.items()))


def attacks_on(wildcards):
    """What looks for the concept in a run."""
    run = studies.Run(wildcards.backbone, wildcards.concept, wildcards.method, int(wildcards.seed))
    return STUDY.attacks[run]


def attacked_samples(wildcards):
    return [f"{SAMPLES}/{attack}/metadata.jsonl".format(**dict(wildcards.items())) for attack in attacks_on(wildcards)]


def baseline_samples(wildcards):
    run = RUN.format(**dict(wildcards.items()) | {"method": BASELINE})
    return [f"{run}/samples/{STUDY.name}/{file}" for file in SAMPLE_FILES]


def backbone_params(wildcards):
    """What a backbone's users read of its file."""
    return canonical(load_params("backbones", wildcards.backbone), without=("build", "pretrain"))


def pretrain_params(wildcards):
    """What a backbone's training reads of its file: everything but how it is sampled and cached."""
    sampling = ("steps", "scheduler", "guidance", "temperature", "top_p", "batch", "pool", "cache")
    return canonical(load_params("backbones", wildcards.backbone), without=sampling)


def concept_params(wildcards):
    return canonical(load_params("concepts", wildcards.concept))


def train_params(wildcards):
    """A method's fields on this backbone, those of the method that edits its pictures, and a digest of its code."""
    content = method_params(wildcards.method, wildcards.backbone)
    if content.get("target") == "flowedit":
        content = content | {"edit": method_params(content.get("edit", "flowedit"), wildcards.backbone)}
    return canonical(content | {"code": code(content["class"])})


def attack_params(wildcards):
    """An attack's fields and a digest of its code."""
    content = load_params("attacks", wildcards.attack)
    return canonical(content | {"code": code(content["class"])})


def load_metric(name):
    return load_params("metrics", name)


def metric_params(wildcards):
    """The settings of the study's metrics and digests of their code."""
    contents = map(load_metric, STUDY.metrics)
    return [canonical(content | {"code": code(content["class"])}) for content in contents]


def sign_of_life():
    """An open file whose lock the kernel drops with this process, so that `make` can tell a killed run from a live one."""
    Path(".snakemake").mkdir(exist_ok=True)
    handle = open(".snakemake/alive", "w")
    with suppress(BlockingIOError):
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    return handle


ALIVE = sign_of_life() if workflow.is_main_process else None


def warm_process():
    """What imports the libraries once for all jobs of a run on this machine; it ends with the pipe that is returned.

    A GPU's jobs are long enough to import by themselves; so does every job if PALIMPSEST_WARM is set, to nothing.
    """
    if warm.SERVER in os.environ or workflow.non_local_exec or sys.platform != "linux" or shutil.which("nvidia-smi"):
        return None
    Path("logs").mkdir(exist_ok=True)
    os.environ[warm.SERVER] = str(Path(tempfile.mkdtemp(prefix="palimpsest-")) / "warm")
    command = (sys.executable, "-m", "stages.launch.fork_server", os.environ[warm.SERVER])
    with open("logs/warm.log", "w") as log:
        return subprocess.Popen(command, cwd=workflow.basedir, stdin=subprocess.PIPE, stderr=log).stdin


HELD = []  # open for as long as this run

# Without a cap Snakemake would start all GPU jobs at once; a profile or `--resources gpu=N` overrides it.
if shutil.which("nvidia-smi"):
    workflow.global_resources.setdefault("gpu", Resource("gpu", 1))


onstart:
    pulled = any(path.parts[1] != "cache" for path in Path("artifacts").rglob("*.safetensors"))
    stamped = any(path.is_file() for path in Path(".snakemake/metadata").rglob("*"))
    if pulled and not stamped and not workflow.touch:
        raise WorkflowError(
            "artifacts/ was made elsewhere; stamp it first: make restore (snakemake --touch --forceall --cores 1)"
        )
    HELD.append(warm_process())
