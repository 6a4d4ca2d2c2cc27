"""Runs of a study from the command line: pictures of any prompts, attacks, measures."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path

from stages.door.calls import call
from stages.params.check import check_backbone
from stages.params.check_methods import check_attack, check_gate, works_on
from stages.params.check_metrics import sees
from stages.params.layout import run_folder
from stages.params.load import load_params
from stages.params.study import Run, Study, load_study
from stages.store.files import write_json

UNEDITED = "none"
log = logging.getLogger("palimpsest")


def sample_prompts(
    backbone: str, prompts: Sequence[str], out: Path, *, run: str = "", seeds: Sequence[int] = (0,), threads: int = 1
) -> None:
    """Draws each prompt once for every seed into `out`/pictures; ValueError for a folder that is not empty."""
    check_backbone(backbone)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} is not empty; choose another --out")
    if not seeds:
        raise ValueError("--each must be 1 or more")
    if run and not (Path(run) / "intervention.json").is_file():
        raise FileNotFoundError(f"{run}/intervention.json is missing; name the folder of an intervention")
    asked = [(prompt, seed) for prompt in prompts for seed in seeds]
    rows = [{"index": i, "prompt": prompt, "seed": seed} for i, (prompt, seed) in enumerate(asked)]
    write_json(out / "prompts.json", {"sets": {"pictures": rows}})
    of = ["--run", run] if run else []
    options = ["--backbone", backbone, "--seed", 0, "--prompts", out / "prompts.json", "--threads", threads]
    call("sample", *options, *of, "--out", out)
    log.info("%d pictures: %s", len(rows), out / "pictures")


def chosen(study: str, *, method: str = "", backbone: str = "", concept: str = "") -> list[Run]:
    """A study's runs with that method, backbone and concept, the unedited ones if asked for; ValueError for none."""
    found = [
        run
        for run in load_study(study).runs
        if (run.method == method if method else run.method != UNEDITED)
        and backbone in ("", run.backbone)
        and concept in ("", run.concept)
    ]
    if not found:
        have = sorted({f"{run.backbone}/{run.concept}/{run.method}" for run in load_study(study).runs})
        raise ValueError(f"the study {study} has no such run; have: {', '.join(have)}")
    return found


def attack_runs(study: str, attack: str, runs: Sequence[Run], threads: int = 1) -> None:
    """Attacks each run and measures it anew; everything is checked before the first one."""
    content, checked = check_attack(attack), load_study(study)
    if not any(sees(metric) for metric in checked.metrics):
        raise ValueError(
            f"params/studies/{study}.yaml: attacks need a metric that sees the concept (rates, clip_rates)"
        )
    if attack in checked.prompts:
        raise ValueError(f"the study {study} samples prompts of the name {attack}, too; rename the attack's file")
    for run in runs:
        family = load_params("backbones", run.backbone)["family"]
        if not works_on(content, family):
            raise ValueError(f"{attack} works on {', '.join(content['families'])}; {run.backbone} is of {family}")
        check_gate(attack, run.method, run.backbone)
        made_by(run, study)
        sampled(checked, run)
        out = folder(run) / "attacks" / study / attack
        if out.exists():
            raise ValueError(f"{out} is there already; remove it first to search again")
    for run in runs:
        out, made = folder(run) / "attacks" / study / attack, made_by(run, study)
        options = ["--study", study, *named(run), "--attack", attack, "--threads", threads]
        call("attack", *options, *(["--run", made] if made else []), "--out", out)
    measure_runs(study, runs, threads)


def measure_runs(study: str, runs: Sequence[Run], threads: int = 1) -> None:
    """Measures each run with the study's metrics, and what attacks found in it; FileNotFoundError without pictures."""
    checked = load_study(study)
    for run in runs:
        sampled(checked, run)
    for run in runs:
        attacks = [path.name for path in sorted((folder(run) / "attacks" / study).glob("*")) if path.is_dir()]
        options = ["--study", study, *named(run), "--threads", threads]
        call("evaluate", *options, "--attacks", *attacks, "--out", folder(run) / "metrics" / study)


def made_by(run: Run, study: str) -> Path | None:
    """The folder of a run's intervention; None for the unedited backbone. FileNotFoundError if it is not fitted yet."""
    if run.method == UNEDITED:
        return None
    for place in (folder(run), folder(run) / "samples" / study):
        if (place / "intervention.json").is_file():
            return place
    raise FileNotFoundError(
        f"{folder(run)}/intervention.json is missing; run the study first: snakemake --config study={study}"
    )


def sampled(study: Study, run: Run) -> None:
    """Raises a FileNotFoundError if a run, or the unedited one beside it, has no pictures of the study yet."""
    for method in (run.method, UNEDITED):
        place = run_folder(run.backbone, run.concept, method, run.seed) / "samples" / study.name
        if not place.is_dir():
            raise FileNotFoundError(f"{place} is missing; run the study first: snakemake --config study={study.name}")


def folder(run: Run) -> Path:
    """Where a run lies."""
    return run_folder(run.backbone, run.concept, run.method, run.seed)


def named(run: Run) -> list[str]:
    """The options that name a run to an entry."""
    names = {"backbone": run.backbone, "concept": run.concept, "method": run.method, "seed": str(run.seed)}
    return [word for key, value in names.items() for word in (f"--{key}", value)]


def backbone_of(run: Path) -> str:
    """The backbone that a run edits, as its record or its place says; ValueError if neither does."""
    for path in sorted(run.glob("record-*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        if name := content.get("params", {}).get("backbone"):
            return str(name)
        for file in map(Path, content.get("inputs", {})):
            if file.parent.name == "backbones":
                return file.stem
    raise ValueError(f"{run}: no record says of which backbone it is; name it with --backbone")
