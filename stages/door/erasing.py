"""One concept out of one backbone by one method: made, checked, fitted, measured and written, each by its own stage."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.door.asked import Asked
from stages.door.calls import call
from stages.door.files import Plan, of_checkpoint, of_world, seeing
from stages.params.check import check_backbone
from stages.params.layers import kind_of, method_params
from stages.params.load import build, check_name, load_params, metric_params
from stages.params.project import home, located, writable
from stages.store.files import digest

BINARIZED = "stages.methods.binarized.Binarized"
log = logging.getLogger("erase")


@dataclass(frozen=True)
class Erasure(Asked):
    """One concept out of one backbone by one method, with all that shows how well it worked.

        from stages import Erasure

        done = Erasure("sd14", "Van Gogh", "erased", kind="style", method="esd_x").run()
        print(done.said)

    The concept, its table and a study of that name are written into the project, where they are like any others.
    """

    def run(self) -> Erased:
        """Makes the concept, fits, samples, measures and writes it all to `out`.

        Whatever can be known to be wrong is refused before anything is written or trained.
        """
        plan = self.plan()
        self.check(plan)
        plan.write(writable())
        self.fit()
        from stages.door.result import write

        return Erased(Path(self.out), write(self), self.study(), self.made())

    def plan(self) -> Plan:
        """The files to write into the project; ValueError for a method or a concept that cannot be meant."""
        writable()
        about = check_backbone(check_name(self.backbone, "backbone"))
        check_name(self.method, "method")
        if load_params("methods", self.method)["class"] == BINARIZED or self.method == "none":
            raise ValueError(
                f"{self.method} erases nothing by itself; name a method that is trained or fitted (esd_x, uce)"
            )
        name = self.concept()
        files: dict[str, Any] = {}
        if located(f"params/concepts/{name}.yaml").is_file() and not (self.kind or self.synonyms or self.neutral):
            log.info("concept %s: params/concepts/%s.yaml as it stands", name, name)
            metrics = seeing(name, self.backbone)
        elif about.get("world"):
            files, metrics = of_world(self, about)
        else:
            files, metrics = of_checkpoint(self)
        study = {
            "name": self.study(),
            "description": f"{self.words} out of {self.backbone} by {self.method}.",
            "cells": [{"backbones": [self.backbone], "concepts": [name], "methods": ["none", self.method]}],
            "seeds": [self.seed],
            "prompts": {"concept": self.pictures, "retain": self.pictures},
            "metrics": metrics,
        }
        return Plan(files | {f"params/studies/{self.study()}.yaml": study})

    def check(self, plan: Plan) -> None:
        """Raises an error in one line for what cannot work: files, settings, weights, what measures, the folder."""
        out = Path(self.out)
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise ValueError(f"{out} is not empty; choose another --out")
        if self.pictures < 1:
            raise ValueError(f"--pictures must be 1 or more, got {self.pictures}")
        metrics = plan.check(self.study())
        from stages.backbones import load_backbone
        from stages.door.weights import fetch

        fetch(self.backbone)
        for name, content in metrics.items():
            content = content or metric_params(name, self.backbone)
            build(content, f"params/metrics/{name}.yaml")
            if "judge" in content:
                from stages.metrics.judged import load_judge

                load_judge(content["judge"])
            elif "model" in content:
                from stages.metrics.clip_score import load_clip

                load_clip(content["model"])
        load_backbone(self.backbone)
        self.fitted()

    def fitted(self) -> bool:
        """Whether the run is trained already, with these settings on these files; ValueError if with others."""
        folder = self.folder()
        if not (folder / "intervention.json").is_file() or not self.trained():
            return False
        from stages.reporting.collect import read_json

        record = read_json(folder / "record-train.json") if (folder / "record-train.json").is_file() else {}
        inputs = {Path(path).name: value for path, value in record.get("inputs", {}).items()}
        files = [located(f"params/{kind}/{name}.yaml") for kind, name in self.inputs()]
        same = all(path.is_file() and inputs.get(path.name) == digest(path) for path in files)
        if same and record.get("params") == method_params(self.method, self.backbone, kind=kind_of(self.concept())):
            return True
        raise ValueError(
            f"{folder} holds a run with other settings; keep it and take another --seed or --name, or remove it first"
        )

    def inputs(self) -> list[tuple[str, str]]:
        """The files of params/ that a training notes in its record."""
        return [("backbones", self.backbone), ("concepts", self.concept())]

    def fit(self) -> None:
        """Fits, samples and measures."""
        study, run = self.study(), ["--backbone", self.backbone, "--concept", self.concept(), "--seed", self.seed]
        prompts, threads = home() / f"artifacts/prompts/{study}/{self.concept()}.json", ["--threads", self.threads]
        call("prepare", "--study", study, "--concept", self.concept(), "--out", prompts)
        trained: list[Any] = []
        if self.trained():
            trained = ["--run", self.folder()]
            if self.fitted():
                log.info("trained already: %s", self.folder())
            else:
                call("train", *run, "--method", self.method, *threads, "--out", self.folder())
        for method, of in (("none", []), (self.method, trained)):
            out = self.folder(method) / "samples" / study
            call("sample", *run, "--method", method, *of, "--prompts", prompts, *threads, "--out", out)
        for method in ("none", self.method):
            out = self.folder(method) / "metrics" / study
            call("evaluate", *run, "--study", study, "--method", method, *threads, "--out", out)


@dataclass(frozen=True)
class Erased:
    """What came of it."""

    out: Path  # README.md, report.html, before_after.png, intervention/ and, if it has a form elsewhere, that
    said: str  # a line with the rates before and after
    study: str  # a file of params/studies/
    run: Path  # the folder with the intervention, for `load_run`
