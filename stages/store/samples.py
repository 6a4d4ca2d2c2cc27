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
Size = tuple[int, int]  # height, width in pixels


class Sampler(Protocol):
    """A backbone, as far as samples need one."""

    name: str
    settings: Any

    def encode(self, prompts: Sequence[str]) -> Any: ...

    def sample(
        self, condition: Any, *, seeds: Sequence[int], steps: int, guidance: float, size: Size | None = None
    ) -> Tensor: ...


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

    folder.mkdir()
    lines: dict[int, dict[str, Any]] = {}
    for numbers in tqdm(batches(backbone, rows), f"sample {name}", mininterval=2, leave=False):
        for number, picture in zip(numbers, draw(backbone, [rows[i] for i in numbers]), strict=True):
            lines[number] = write_sample(folder, rows[number], picture)
    text = "".join(json.dumps(lines[number], sort_keys=True) + "\n" for number in sorted(lines))
    (folder / "metadata.jsonl").write_text(text)


def batches(backbone: Sampler, rows: Sequence[Row]) -> list[list[int]]:
    """The numbers of the rows that are drawn together: of one guidance and size, at most `settings.batch`."""
    alike: dict[tuple[float, Size | None], list[int]] = {}
    for number, row in enumerate(rows):
        alike.setdefault(as_asked(backbone, row), []).append(number)
    size = backbone.settings.batch
    return [numbers[start : start + size] for numbers in alike.values() for start in range(0, len(numbers), size)]


def as_asked(backbone: Sampler, row: Row) -> tuple[float, Size | None]:
    """The guidance of a row, or else the backbone's, and its height and width, None for the backbone's own.

    ValueError for a width without a height, and the reverse.
    """
    sides = row.get("height"), row.get("width")
    if (sides[0] is None) != (sides[1] is None):
        raise ValueError(f"prompt {row['prompt']!r}: width and height must both be given, or neither")
    guidance = row.get("guidance")
    size = None if sides[0] is None or sides[1] is None else (int(sides[0]), int(sides[1]))
    return float(backbone.settings.guidance if guidance is None else guidance), size


def draw(backbone: Sampler, rows: list[Row]) -> Tensor:
    """The pictures of some rows at the backbone's own steps; guidance and size are the rows', or else the backbone's.

    (B, 3, H, W) or (B, F, 3, H, W) in [0, 1]. ValueError for a seed that no generator takes, for a size that the
    backbone does not draw, and for rows of different sizes or guidances, which no one batch can have (see `batches`);
    FloatingPointError with prompt, seed and backbone for a picture that is not finite.
    """
    from stages.store.finite import check_rows

    prompts, seeds = [row["prompt"] for row in rows], [row["seed"] for row in rows]
    for prompt, seed in zip(prompts, seeds, strict=True):
        if not 0 <= seed < SEEDS:
            raise ValueError(f"prompt {prompt!r}: seed must be 0 to 2**64 - 1, got {seed}")
    asked = {as_asked(backbone, row) for row in rows}
    if len(asked) > 1:
        raise ValueError(f"rows of one batch must be of one guidance and size, got {len(asked)} kinds")
    ((guidance, size),) = asked
    sized = {} if size is None else {"size": size}
    condition, steps = backbone.encode(prompts), backbone.settings.steps
    pictures = backbone.sample(condition, seeds=seeds, steps=steps, guidance=guidance, **sized)
    check_rows("picture", pictures, getattr(backbone, "name", "the backbone"), prompts, seeds)
    return pictures
