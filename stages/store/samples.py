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

SEEDS = 2**64  # what a generator takes
BEFORE = "before"  # in an attack's folder, pictures of what was attacked, with nothing that attacks
Row = dict[str, Any]


class Sampler(Protocol):
    """A backbone, as far as samples need one."""

    name: str
    settings: Any

    def encode(self, prompts: Sequence[str]) -> Any: ...

    def sample(self, condition: Any, *, seeds: Sequence[int], steps: int, guidance: float) -> Tensor: ...


def read_sets(path: Path) -> dict[str, list[Row]]:
    """The prompt sets; FileNotFoundError, or ValueError for a file that stages.prepare did not write."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; make it with stages.prepare")
    try:
        sets = json.loads(path.read_text(encoding="utf-8"))["sets"]
        for name, rows in sets.items():
            for number, row in enumerate(rows, start=1):
                _check_row(f"{path}: {name}: row {number}", row)
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: not prompt sets: {error}") from None
    return sets


def _check_row(where: str, row: Mapping[str, Any]) -> None:
    prompt, seed = row["prompt"], row["seed"]
    if not isinstance(prompt, str):
        raise ValueError(f"{where}: prompt must be a text, got {prompt!r}")
    if type(seed) is not int or not 0 <= seed < SEEDS:
        raise ValueError(f"{where}: seed must be 0 to 2**64 - 1, got {seed!r}")


def write_folder(backbone: Sampler, rows: list[Row], out: Path) -> None:
    """Samples in batches and writes the folder whole, or not at all; errors as of `draw`."""
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
    """The pictures of some rows at the backbone's own steps and guidance.

    (B, 3, H, W) or (B, F, 3, H, W) in [0, 1]. ValueError for a seed that no generator takes; FloatingPointError with
    prompt, seed and backbone for a picture that is not finite.
    """
    from stages.store.finite import check_rows

    settings = backbone.settings
    prompts, seeds = [row["prompt"] for row in rows], [row["seed"] for row in rows]
    for prompt, seed in zip(prompts, seeds, strict=True):
        if not 0 <= seed < SEEDS:
            raise ValueError(f"prompt {prompt!r}: seed must be 0 to 2**64 - 1, got {seed}")
    pictures = backbone.sample(backbone.encode(prompts), seeds=seeds, steps=settings.steps, guidance=settings.guidance)
    check_rows("picture", pictures, getattr(backbone, "name", "the backbone"), prompts, seeds)
    return pictures
