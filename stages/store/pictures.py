"""Samples as files: lossless PNGs for the metrics, a playable animation beside a clip's frames for people."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from stages.params.project import located
from stages.store.finite import REASONS
from stages.store.opening import open_picture, picture_files

LINE = ("file", "prompt", "seed")  # every line of metadata.jsonl has these


def to_pixels(picture: Tensor) -> np.ndarray:
    """(..., 3, H, W) in [0, 1] to (..., H, W, 3) uint8, rounded; FloatingPointError for values that are not finite."""
    values = picture.detach().float()
    if not torch.isfinite(values).all():
        raise FloatingPointError(f"a picture is not finite and was not written; likely reasons: {REASONS}")
    return (values.clamp(0, 1) * 255).round().to(torch.uint8).movedim(-3, -1).cpu().numpy()


def write_sample(folder: Path, row: dict[str, Any], picture: Tensor) -> dict[str, Any]:
    """Writes a picture (3, H, W) or a clip (F, 3, H, W) in [0, 1] and returns its line of metadata.jsonl.

    FloatingPointError with the row's prompt and seed for one that is not finite; nothing is written then.
    """
    name = f"{row['index']:04d}"
    try:
        pixels = to_pixels(picture)
    except FloatingPointError as error:
        raise FloatingPointError(f"prompt {row.get('prompt')!r}, seed {row.get('seed')}: {error}") from None
    if picture.dim() == 3:
        Image.fromarray(pixels).save(folder / f"{name}.png")
        return row | {"file": f"{name}.png"}
    frames = [Image.fromarray(frame) for frame in pixels]
    (folder / name).mkdir()
    for i, frame in enumerate(frames):
        frame.save(folder / name / f"{i:02d}.png")
    frames[0].save(
        folder / f"{name}.webp", save_all=True, append_images=frames[1:], duration=120, loop=0, lossless=True
    )
    return row | {"file": name, "animation": f"{name}.webp", "frames": len(frames)}


def read_metadata(folder: Path) -> list[dict[str, Any]]:
    """The lines of metadata.jsonl; FileNotFoundError or ValueError names the file and the line."""
    path = Path(folder) / "metadata.jsonl"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; make it with stages.sample (or snakemake)")
    lines = []
    for number, text in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
        if not text.strip():
            continue
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}: line {number}: not JSON lines: {error}") from None
        if not isinstance(lines[-1], dict) or not all(key in lines[-1] for key in LINE):
            raise ValueError(f"{path}: line {number}: expected an object with {', '.join(LINE)}")
    return lines


def read_folder(folder: Path | str, size: tuple[int, int] | None = None) -> Tensor:
    """All of `each_picture` at once, (N, 3, H, W); ValueError if sizes differ and no `size` is given."""
    pictures = list(each_picture(folder, size))
    if len({picture.shape for picture in pictures}) > 1:
        raise ValueError(f"{folder}: pictures differ in size, and the backbone names none to fit them to")
    return torch.stack(pictures)


def each_picture(folder: Path | str, size: tuple[int, int] | None = None) -> Iterator[Tensor]:
    """Yields every picture of a folder by name, (3, H, W) in [0, 1], its middle resized to `size` (H, W).

    Hidden files and subfolders are left out; files that are no pictures are left out with a line in the log.
    FileNotFoundError if there are none; ValueError names a picture that is damaged, too large or of a format that
    Pillow cannot read.
    """
    for path in picture_files(located(folder)):
        image = open_picture(path)
        if size and (image.height, image.width) != tuple(size):
            image = ImageOps.fit(image, (size[1], size[0]), Image.Resampling.LANCZOS)
        yield _tensor(image)


def read_picture(folder: Path, line: dict[str, Any]) -> Tensor:
    """The picture (3, H, W) or clip (F, 3, H, W) of one line of a folder's metadata, in [0, 1].

    FileNotFoundError or ValueError names a file that is missing or damaged.
    """
    if "frames" in line:
        return torch.stack([_png(folder / line["file"] / f"{i:02d}.png") for i in range(line["frames"])])
    return _png(folder / line["file"])


def _png(path: Path) -> Tensor:
    return _tensor(open_picture(path))


def _tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.asarray(image).copy()).movedim(-1, 0).float() / 255
