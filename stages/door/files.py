"""The files that an erasure writes into a project, checked as a study before any of them is written."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from stages.door.asked import Asked
from stages.door.wording import WORDINGS, concept_of, metric_of, table_of
from stages.params.check import prompt_table
from stages.params.check_metrics import check_metric_for, sees
from stages.params.concept import load_concept
from stages.params.datasets import labels, select
from stages.params.load import load_params, names, read_file
from stages.params.project import home, located
from stages.params.study import load_study
from stages.params.types import KIND_OF
from stages.store.files import write_text

Files = dict[str, Any]  # path in the project -> content of a YAML file, or the text of a table
FITTED = 12  # prompts of a world's table that a method learns from, and that are retained


@dataclass(frozen=True)
class Plan:
    """Files to write, by their path in the project."""

    files: Mapping[str, Any]

    def texts(self) -> dict[str, str]:
        """The text of each file."""
        return {path: content if isinstance(content, str) else dumped(content) for path, content in self.files.items()}

    def check(self, study: str) -> dict[str, dict[str, Any]]:
        """The metrics of the study, with the contents of those that are planned; ValueError for what cannot work.

        The study is read in a copy of the project's parameters that has the files in it.
        """
        texts = self.texts()
        for path, text in texts.items():
            if (home() / path).exists() and (home() / path).read_text(encoding="utf-8") != text:
                raise ValueError(
                    f"{path} is there already and says something else; leave out --kind, --synonym and --neutral to "
                    "take the concept as it stands, or give yours another --name"
                )
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder)
            shutil.copytree(located("params"), copy / "params")
            (copy / "data").mkdir()
            for file in located("data").iterdir() if located("data").is_dir() else ():
                os.symlink(file.absolute(), copy / "data" / file.name)
            for path, text in texts.items():
                (copy / path).unlink(missing_ok=True)
                write_text(copy / path, text)
            metrics = load_study(study, copy / "params").metrics
            return {name: dict(self.files.get(f"params/metrics/{name}.yaml") or {}) for name in metrics}

    def write(self, project: Path) -> None:
        """Writes all of them."""
        for path, text in self.texts().items():
            write_text(project / path, text)


def dumped(content: Mapping[str, Any]) -> str:
    """A YAML file's text; lists of prompts stand one below the other."""
    return "# Written by palimpsest erase; yours to change.\n" + yaml.safe_dump(
        dict(content), sort_keys=False, allow_unicode=True, width=116
    )


def of_checkpoint(asked: Asked) -> tuple[Files, list[str]]:
    """The concept, its table and a metric that knows the answers; ValueError for a kind that there is not."""
    name, table, metric = asked.concept(), f"data/{asked.concept()}.csv", f"clip_{asked.concept()}"
    if asked.kind not in WORDINGS:
        said = f"no kind {asked.kind!r}" if asked.kind else f"no concept {name!r} yet: say what it is with --kind"
        raise ValueError(f"{said}; have: {', '.join(WORDINGS)}")
    model = load_params("metrics", "clip_rates")["model"]
    words = (asked.words, asked.kind)
    concept = {"name": name, "dataset": table} | concept_of(*words, asked.synonyms, asked.neutral)
    files = {
        table: table_of(*words, asked.synonyms, asked.neutral),
        f"params/concepts/{name}.yaml": concept,
        f"params/metrics/{metric}.yaml": metric_of(*words, model, asked.synonyms),
    }
    return files, [metric, "clip_score"]


def of_world(asked: Asked, about: Mapping[str, Any]) -> tuple[Files, list[str]]:
    """A concept of the table of the backbone's world; ValueError for words that are in none of its labels."""
    world, key = about["world"], "clips" if about.get("frames") else "prompts"
    worlds = read_file(located("params/zoo.yaml"))["worlds"] if located("params/zoo.yaml").is_file() else {}
    path = worlds.get(world, {}).get(key)
    if not path:
        raise ValueError(
            f"{asked.backbone} draws the world of {world}, of which no table of prompts is named in params/zoo.yaml; "
            f"take a concept that is there, or write params/concepts/{asked.concept()}.yaml"
        )
    table = prompt_table(located(path))
    known = {label: sorted(set(table[label]) - {""}) for label in labels(table)}
    label = next((label for label, values in known.items() if asked.words in values), None)
    if label is None:
        have = "; ".join(f"{label}: {', '.join(values)}" for label, values in known.items())
        raise ValueError(f"{asked.backbone} draws the world of {world}, which has no {asked.words!r}; it has {have}")
    if asked.neutral or asked.synonyms:
        raise ValueError(f"{path} has its own synonyms and neutral twins; leave out --synonym and --neutral")
    target = {label: asked.words}
    shown, twins, others = (
        select(table, target, which, "fit")["prompt"].tolist() for which in ("concept", "neutral", "retain")
    )
    if not shown or not others:
        raise ValueError(f"{path} has no rows of {asked.words!r} to learn from (split: fit)")
    every = max(1, len(others) // FITTED)
    concept: Files = {"name": asked.concept(), "dataset": path, "target": target, "words": [asked.words]}
    concept |= {"kind": KIND_OF[label]} if label in KIND_OF else {}
    concept |= {"prompts": shown[:FITTED], "neutral": twins[:FITTED], "retain": others[::every][:FITTED]}
    return {f"params/concepts/{asked.concept()}.yaml": concept}, metrics_of_world()


def metrics_of_world() -> list[str]:
    """What measures pictures of a small world: the judge's rates, and how far they moved."""
    return [name for name in ("rates", "drift") if name in names("metrics")]


def seeing(concept: str, backbone: str) -> list[str]:
    """The metrics for a concept that is there: one that sees it, and one of the rest; ValueError without one."""
    if load_params("backbones", backbone).get("world"):
        return metrics_of_world()
    have = names("metrics")
    for name in dict.fromkeys([f"clip_{concept}", "clip_rates", *have]):
        if name in have and sees(name) and load_params("metrics", name)["class"].endswith("CLIPRates"):
            try:
                check_metric_for(name, load_concept(concept), backbone)
            except ValueError:
                continue
            return [name, *(["clip_score"] if "clip_score" in have else [])]
    raise ValueError(
        f"no metric of params/metrics/ can tell what the target of params/concepts/{concept}.yaml asks for; write one "
        "with class: stages.metrics.clip_rates.CLIPRates and its choices, or give another --name and a --kind"
    )
