"""Samples on disk: the prompt sets that they are of, and folders of pictures with one line of metadata each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from stages.store.files import replacing

if TYPE_CHECKING:
    from torch import Tensor

SEED_STRIDE = 1_000_000  # between the sampling seeds of two run seeds
Row = dict[str, Any]


class Sampler(Protocol):
    """A backbone, as far as samples need one."""

    settings: Any

    def encode(self, prompts: Sequence[str]) -> Any: ...

    def sample(self, condition: Any, *, seeds: Sequence[int], steps: int, guidance: float) -> Tensor: ...


def read_sets(path: Path) -> dict[str, list[Row]]:
    """The prompt sets; ValueError for a file that stages.prepare did not write."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; make it with stages.prepare")
    try:
        return json.loads(path.read_text())["sets"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not prompt sets: {error}") from None


def write_folder(backbone: Sampler, rows: list[Row], out: Path) -> None:
    """Samples in batches and writes the folder whole."""
    write_folders(backbone, {out: rows})


def write_folders(backbone: Sampler, sets: Mapping[Path, list[Row]]) -> None:
    """Samples several sets and puts their folders in place when all are whole: none is new beside one from before."""
    with ExitStack() as finished:
        for out, rows in sets.items():
            _fill(backbone, rows, finished.enter_context(replacing(out)), out.name)


def _fill(backbone: Sampler, rows: list[Row], folder: Path, name: str) -> None:
    from tqdm import tqdm

    from stages.store.pictures import write_sample

    size = backbone.settings.batch
    folder.mkdir()
    lines = []
    for start in tqdm(range(0, len(rows), size), f"sample {name}", mininterval=2, leave=False):
        batch = rows[start : start + size]
        for row, picture in zip(batch, draw(backbone, batch), strict=True):
            lines.append(write_sample(folder, row, picture))
    (folder / "metadata.jsonl").write_text("".join(json.dumps(line, sort_keys=True) + "\n" for line in lines))


def draw(backbone: Sampler, rows: list[Row]) -> Tensor:
    """The pictures of some rows at the backbone's own steps and guidance."""
    settings = backbone.settings
    condition = backbone.encode([row["prompt"] for row in rows])
    seeds = [row["seed"] for row in rows]
    return backbone.sample(condition, seeds=seeds, steps=settings.steps, guidance=settings.guidance)
