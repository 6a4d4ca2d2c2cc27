"""Documented steering experiments: their YAML, with a model's, as the files of this project."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import yaml

from Infinity import Release
from Infinity.schedules import BUDGETS
from stages.documented.setups import Setup, read_setups
from stages.params import check_name, construct, load_params
from stages.params.datasets import read_prompts
from stages.params.types import Count, NonNegative

CLASSES = {  # a label of each dataset, and its classes 0 and 1
    "shapes_colors": ("colour", ("red", "blue")),
    "dogs_cats": ("class", ("dog", "cat")),
}
CHOICE = {"colour": "a photo of a {} shape"}  # how CLIP is asked for a label that params/metrics/clip_rates.yaml lacks
METHOD = "stages.methods.prototype_steering.PrototypeSteering"
LEARN = 4  # one prompt in so many is steered by, the others are measured

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Experiment:
    """An experiment's file; its fields are named as the documents name them.

    VARIANT is the class steered to. In EXPERIMENT_DIR, `setup/` holds EXPERIMENT_SETUP (a list of setups is a grid
    search) and `weights/` CLASSIFIER_WEIGHTS. GRID_PATH is where the grid of unedited and steered pictures goes; FID
    asks for Frechet distances, of the judge's features or CLIP's. Without CLASSIFIER_WEIGHTS, pictures are told apart
    by the world's judge or by CLIP. UNCHANGED_SAVED is not read: the study samples the unedited model once for all
    its runs, and pictures without the prompts and seeds they are of could not be compared.
    """

    DATASET: Literal["dogs_cats", "shapes_colors"]
    DATASET_PATH: str
    STEERING_TYPE: Literal["TEXT", "VISUAL", "BOTH"]
    STEERING_LOCATION: Literal["ffn", "ca", "ca_block"]
    VARIANT: Literal[0, 1]
    EXPERIMENT_DIR: str
    EXPERIMENT_SETUP: str
    BATCH_SIZE: Count = 4
    CFG: NonNegative = 3.0
    DISTANCE: Literal["EUCLIDEAN", "MAHALANOBIS"] = "EUCLIDEAN"
    STEERING_MODE: Literal["CONDITIONAL", "UNCONDITIONAL", "BOTH"] = "BOTH"
    GRID_PATH: str = ""
    CLASSIFIER_WEIGHTS: str = ""
    UNCHANGED_SAVED: str = ""
    FID: bool = False

    @property
    def label(self) -> str:
        """The label that the classes are values of."""
        return CLASSES[self.DATASET][0]

    @property
    def source(self) -> str:
        """The class steered from."""
        return CLASSES[self.DATASET][1][1 - self.VARIANT]

    @property
    def target(self) -> str:
        """The class steered to."""
        return CLASSES[self.DATASET][1][self.VARIANT]

    @property
    def setup(self) -> Path:
        """The file of setups."""
        return Path(self.EXPERIMENT_DIR) / "setup" / self.EXPERIMENT_SETUP

    @property
    def weights(self) -> Path:
        """The linear classifier's file."""
        return Path(self.EXPERIMENT_DIR) / "weights" / self.CLASSIFIER_WEIGHTS

    def setups(self, scales: int) -> list[Setup]:
        """The setups, for a model of so many scales."""
        found = read_setups(self.setup)
        for number, setup in enumerate(found):
            try:
                setup.check(scales, 10**6, 10**6)  # the number of layers is the network's to say
            except ValueError as error:
                raise ValueError(f"{self.setup}: setup {number}: {error}") from None
        return found


def read_experiment(path: Path | str) -> Experiment:
    """The experiment of a YAML; ValueError or FileNotFoundError names the file and the field."""
    found = construct(Experiment, _read(Path(path)), str(path))
    files = {"DATASET_PATH": found.DATASET_PATH, "EXPERIMENT_SETUP": found.setup}
    if found.CLASSIFIER_WEIGHTS:
        files["CLASSIFIER_WEIGHTS"] = found.weights
    for field, file in files.items():
        if not Path(file).is_file():
            raise FileNotFoundError(f"{path}: {field}: {file} is missing")
    if found.UNCHANGED_SAVED:
        told = "%s: UNCHANGED_SAVED: %s is not read; the study samples the unedited model once for all its runs"
        log.warning(told, path, found.UNCHANGED_SAVED)
    return found


def read_model(path: Path | str) -> dict[str, Any]:
    """The backbone's settings from the seven fields of a model's YAML, which must agree; ValueError names the file."""
    content = _read(Path(path))
    try:
        release = Release.from_dict(content)
        release.check()
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return {
        "class": "stages.backbones.infinity.InfinityBackbone",
        "family": "infinity",
        "path": "FoundationVision/Infinity",
        "release": content,
        "dtype": "bfloat16",
        "steps": BUDGETS[release.pn],
        "temperature": 0.5,
        "top_p": 0.97,
        "pool": 8,
        "gradient_checkpointing": True,
    }


def files(name: str, experiment: Experiment, model: Mapping[str, Any] | str, root: Path | str = "params") -> Files:
    """The files of an experiment under `root` by kind; `model` holds settings, or the name of a backbone there is."""
    check_name(name, "experiment")
    settings = load_params("backbones", model, root) if isinstance(model, str) else dict(model)
    setups = experiment.setups(settings["steps"])
    table = read_prompts(experiment.DATASET_PATH)
    pairs, kept, measured = _prompts(experiment, table)
    backbone, own = _backbone(name, experiment, model, settings)
    metric, measures = _metrics(name, experiment, settings, measured)
    method: dict[str, Any] = {
        "class": METHOD,
        "trained": False,
        "concepts": [name],
        "steering": experiment.STEERING_TYPE,
        "location": experiment.STEERING_LOCATION,
        "distance": experiment.DISTANCE,
        "mode": experiment.STEERING_MODE,
        "variant": 1,  # of the concept's pairs, whose second prompt is of the class steered to
        "setup": str(experiment.setup),
    }
    concept: dict[str, Any] = {
        "name": name,
        "aim": "learn",
        "dataset": f"data/{name}.csv",
        "target": {experiment.label: experiment.target},
        "prompts": [prompt for prompt, _ in pairs],
        "neutral": [twin for _, twin in pairs],
        "retain": kept,
    }
    cell: dict[str, Any] = {"backbones": [backbone], "concepts": [name], "methods": ["none", name]}
    if len(setups) > 1:
        method["setup_index"] = 0
        sweep = {"method": name, "fields": {"setup_index": list(range(len(setups)))}}
        cell |= {"methods": ["none"], "sweep": sweep}
    asked = int((measured[experiment.label] == experiment.target).sum())
    study: dict[str, Any] = {
        "name": name,
        "description": f"{experiment.DATASET}: {experiment.source} steered to {experiment.target}.",
        "cells": [cell],
        "seeds": [0],
        "prompts": {"concept": asked, "retain": len(measured) - asked},
        "metrics": measures,
    }
    found: dict[str, dict[str, Any]] = {"methods": method, "concepts": concept, "studies": study} | own | metric
    return Files(found, measured.to_csv(index=False, lineterminator="\n"))


@dataclass(frozen=True)
class Files:
    """What an experiment becomes: `params[kind]` is the content of params/<kind>/<name>.yaml; the prompts as CSV."""

    params: Mapping[str, Mapping[str, Any]]
    prompts: str


def _prompts(experiment: Experiment, table: pd.DataFrame) -> tuple[list[tuple[str, str]], list[str], pd.DataFrame]:
    """Pairs to steer by, prompts that stay, and the table to measure: the source's prompts under the target's label."""
    label, source, target = experiment.label, experiment.source, experiment.target
    where = f"{experiment.DATASET_PATH}: "
    if f"without_{label}" not in table:
        raise ValueError(f"{where}no label {label!r}, which {experiment.DATASET} has")
    asks = table[(table["set"] == "full") & (table[label] == source)]
    others = table[table["set"].isin(["full", "unrelated"]) & ~table[label].isin([source, target])]
    for rows, what in ((asks, source), (others, f"neither {source} nor {target}")):
        if len(rows) < 2:
            raise ValueError(f"{where}fewer than two prompts with {label} {what}")
    learned = asks["prompt"].iloc[::LEARN].tolist()
    pairs = [(prompt, re.sub(rf"\b{source}\b", target, prompt)) for prompt in learned]
    if wrong := [prompt for prompt, twin in pairs if prompt == twin]:
        raise ValueError(f"{where}{wrong[0]!r} does not say {source!r}")
    kept = list(dict.fromkeys(others["prompt"].iloc[::LEARN]))
    measured = pd.concat([asks.assign(**{label: target}), others])
    measured = measured[~measured["prompt"].isin([*learned, *kept])]
    return pairs, kept, measured.drop(columns="split", errors="ignore")  # what is learned stands in no row that is left


def _backbone(
    name: str, experiment: Experiment, model: Mapping[str, Any] | str, settings: Mapping[str, Any]
) -> tuple[str, dict[str, Any]]:
    """The backbone's name, and its file unless there is one with this guidance."""
    chosen: dict[str, Any] = {"guidance": experiment.CFG, "batch": experiment.BATCH_SIZE}
    if not isinstance(model, str):
        return name, {"backbones": {**settings, **chosen}}
    if settings["guidance"] == experiment.CFG:
        return model, {}  # pictures do not depend on their batch
    if settings.get("world"):
        chosen["path"] = f"artifacts/backbones/{name}"  # where the workflow trains it again
    return name, {"backbones": {"like": model} | chosen}


def _metrics(
    name: str, experiment: Experiment, settings: Mapping[str, Any], measured: pd.DataFrame
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """The file of the linear classifier or of CLIP's choices, if one is needed, and what the study measures."""
    metric: dict[str, dict[str, Any]] = {}
    world, label = bool(settings.get("world")), experiment.label
    if experiment.CLASSIFIER_WEIGHTS:
        names = CLASSES[experiment.DATASET][1]
        metric["metrics"] = {"class": "stages.metrics.linear.LinearRates", "weights": str(experiment.weights)}
        metric["metrics"] |= {"label": label, "classes": list(names)}
        measures = [name]
    elif label in CHOICE and not world:
        choices = {label: sorted({*measured[label], experiment.source})}
        metric["metrics"] = {"class": "stages.metrics.clip_rates.CLIPRates", "choices": choices}
        metric["metrics"] |= {"template": CHOICE[label]}
        measures = [name]
    else:
        measures = ["rates" if world else "clip_rates"]
    distance = "frechet" if world else "clip_frechet"
    return metric, [*measures, *([distance] if experiment.FID else [])]


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a mapping of fields, got {type(content).__name__}")
    return content
