"""Weights of a small world's backbone: at hand, taken from the zoo, or refused with the command that trains them."""

from __future__ import annotations

import logging
from pathlib import Path

from stages.door.calls import call
from stages.params.load import load_params
from stages.params.project import home, located
from stages.params.zoo import FOLDER, part_name, read_manifest, recipe_of, taken

log = logging.getLogger("erase")


def fetch(backbone: str) -> None:
    """Takes from the zoo what a backbone of a small world and its judge lack; nothing for a checkpoint.

    FileNotFoundError names the command that trains what the zoo has not.
    """
    about = load_params("backbones", backbone)
    world = about.get("world")
    if not world:
        return
    zoo, entries = located(FOLDER), read_manifest(located(FOLDER))
    judge = Path("artifacts/worlds") / world / "judge"
    missing = []
    if not located(about["path"]).is_dir():
        if taken(entries, backbone, recipe_of(about)):
            call("pretrain", "backbone", "--backbone", backbone, "--zoo", zoo, "--out", home() / about["path"])
        else:
            missing.append(f"{about['path']}/record-pretrain.json")
    if not located(judge).is_dir():
        if part_name(world, "judge") in entries:
            call("pretrain", "judge", "--world", world, "--zoo", zoo, "--out", home() / judge)
        else:
            missing.append(f"{judge}/record-pretrain.json")
    if missing:
        raise FileNotFoundError(
            f"{backbone} is not trained yet, nor in the zoo; train it with: snakemake --cores all {' '.join(missing)}"
        )
