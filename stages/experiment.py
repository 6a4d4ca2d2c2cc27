"""experiment: a documented steering experiment as files of this project, and its grid once the study has run."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from stages.documented.experiment import Experiment, Files, files, read_experiment, read_model
from stages.launch.cli import entry
from stages.params.project import home, located
from stages.store.files import write_text

MARK = "# Written by stages.experiment from "


@entry
def main(argv: Sequence[str] | None = None) -> int:
    """Writes the study, method, concept and prompts of an experiment; `--grid` brings its grid to GRID_PATH."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("file", help="the experiment's YAML, whose name they take")
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument("--infinity", help="the YAML of a released Infinity: seven fields")
    model.add_argument("--backbone", help="a file of params/backbones/")
    model.add_argument("--grid", action="store_true", help="after the study: copy its grid to GRID_PATH")
    args = parser.parse_args(argv)
    experiment, name = read_experiment(args.file), Path(args.file).stem.lower()
    if args.grid:
        deliver(name, experiment)
    else:
        write(name, files(name, experiment, args.backbone or read_model(args.infinity)), args.file)
    return 0


def write(name: str, made: Files, source: str) -> None:
    """Writes all files or, where one is in the way that was not written here, none."""
    texts = {
        home() / "params" / kind / f"{name}.yaml": f"{MARK}{source}\n{yaml.safe_dump(dict(content), sort_keys=False)}"
        for kind, content in made.params.items()
    }
    for path in texts:
        if path.exists() and not path.read_text().startswith(f"{MARK}{source}\n"):
            raise ValueError(f"{path} is not of this experiment; rename {source}")
    prompts = home() / "data" / f"{name}.csv"
    if prompts.exists() and not any(path.exists() for path in texts):
        raise ValueError(f"{prompts} is not of an experiment; rename {source}")
    for path, text in {**texts, prompts: made.prompts}.items():
        write_text(path, text)


def deliver(name: str, experiment: Experiment, figures: Path | None = None) -> None:
    """Copies the study's grid of unedited and steered pictures to GRID_PATH."""
    if not experiment.GRID_PATH:
        raise ValueError("GRID_PATH: the experiment does not say where its grid goes")
    figures = figures or located("artifacts/figures")
    found = sorted(figures.glob(f"{name}-*-{name}-grid-concept.png"))  # study, backbone and concept of that name
    if not found:
        raise FileNotFoundError(f"no grid of {name} in {figures}; run: snakemake --cores all --config study={name}")
    Path(experiment.GRID_PATH).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(found[0], experiment.GRID_PATH)


if __name__ == "__main__":
    sys.exit(main())
