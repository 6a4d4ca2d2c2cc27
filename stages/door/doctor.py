"""What is there to run on: versions, processor, GPU, project, caches, disk; and what a study lacks."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from stages.params.load import load_params
from stages.params.project import home, is_project, located, shipped
from stages.params.study import Study, load_study
from stages.params.zoo import FOLDER, part_name, read_manifest, recipe_of, taken
from stages.store.processor import processor
from stages.store.record import versions

OPTIONAL = ("snakemake", "dvc", "optuna", "nudenet", "tensorboard", "wandb")


def report() -> str:
    """A line for each thing."""
    return "\n".join(f"{name:<10} {value}" for name, value in facts())


def facts() -> Iterator[tuple[str, str]]:
    """Name and value of each line."""
    import torch

    yield "palimpsest", f"{_version('palimpsest')}, {shipped()}"
    yield "versions", ", ".join(f"{name} {version}" for name, version in versions().items())
    extras = {name: _version(name) for name in OPTIONAL}
    yield "extras", ", ".join(f"{name} {version or '(not there)'}" for name, version in extras.items())
    known = processor()
    sets = ", ".join(known["instructions"]) or "unknown"
    yield "processor", f"{known['name']}: {len(os.sched_getaffinity(0))} usable; {sets}; kernels {known['kernels']}"
    for name, value in known["held"].items():
        yield "held by", f"{name}={value}"
    for number in range(torch.cuda.device_count()):
        memory = torch.cuda.get_device_properties(number).total_memory
        yield "GPU", f"{torch.cuda.get_device_name(number)}, {memory / 1e9:.0f} GB"
    if not torch.cuda.is_available():
        yield "GPU", "none: everything runs on the processor; real checkpoints are slow there"
    yield "project", _project()
    yield "zoo", f"{located(FOLDER)}: {len(read_manifest(located(FOLDER)))} entries"
    yield "hub cache", f"{_hub()}: {len(list(_hub().glob('models--*')))} models"
    yield "disk", f"{shutil.disk_usage(home() or '.').free / 1e9:.0f} GB free in {(home() or Path()).absolute()}"


def missing(study: str) -> list[str]:
    """What a study needs that is not at hand, with the way to it, a line each; ValueError for a study that is wrong."""
    checked = load_study(study)
    return [*dict.fromkeys(line for lines in (_weights(checked), _measures(checked)) for line in lines)]


def _weights(study: Study) -> Iterator[str]:
    entries = read_manifest(located(FOLDER))
    for (name,) in study.unique("backbone"):
        about = load_params("backbones", name)
        world = about.get("world")
        if not world:
            yield from _model(f"the weights of {name}", str(about["path"]))
        elif not located(about["path"]).is_dir() and not taken(entries, name, recipe_of(about)):
            yield f"  {name} is not trained yet: the study trains it"
        if (
            world
            and not located(f"artifacts/worlds/{world}/judge").is_dir()
            and part_name(world, "judge") not in entries
        ):
            yield f"  the judge of {world} is not trained yet: the study trains it"
    if importlib.util.find_spec("snakemake") is None:
        yield "  snakemake: pip install 'palimpsest[workflow]'"


def _measures(study: Study) -> Iterator[str]:
    for name in study.metrics:
        content = load_params("metrics", name)
        if content.get("model"):
            yield from _model(f"the model of {name}", str(content["model"]))
        if content["class"].endswith(".NudeNet") and importlib.util.find_spec("nudenet") is None:
            yield "  nudenet: pip install 'palimpsest[nudenet]'"


def _model(what: str, path: str) -> Iterator[str]:
    folder = _hub() / f"models--{path.replace('/', '--')}"
    if not located(os.path.expanduser(path)).exists() and not folder.is_dir():
        yield f"  {what}: hf download {path}"


def _hub() -> Path:
    """The folder in which the hub keeps what it fetched."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE)


def _project() -> str:
    if is_project(home()):
        return str(home().absolute())
    return f"none here: files are read from {shipped()}; make one with: palimpsest init FOLDER"


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
