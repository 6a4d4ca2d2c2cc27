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


def to_pixels(picture: Tensor) -> np.ndarray:
    """(..., 3, H, W) in [0, 1] to (..., H, W, 3) uint8, rounded."""
    return (picture.detach().float().clamp(0, 1) * 255).round().to(torch.uint8).movedim(-3, -1).cpu().numpy()


def write_sample(folder: Path, row: dict[str, Any], picture: Tensor) -> dict[str, Any]:
    """Writes a picture (3, H, W) or a clip (F, 3, H, W) and returns its line of metadata.jsonl."""
    name = f"{row['index']:04d}"
    if picture.dim() == 3:
        Image.fromarray(to_pixels(picture)).save(folder / f"{name}.png")
        return row | {"file": f"{name}.png"}
    frames = [Image.fromarray(frame) for frame in to_pixels(picture)]
    (folder / name).mkdir()
    for i, frame in enumerate(frames):
        frame.save(folder / name / f"{i:02d}.png")
    frames[0].save(
        folder / f"{name}.webp", save_all=True, append_images=frames[1:], duration=120, loop=0, lossless=True
    )
    return row | {"file": name, "animation": f"{name}.webp", "frames": len(frames)}


def read_metadata(folder: Path) -> list[dict[str, Any]]:
    """The lines of metadata.jsonl; FileNotFoundError or ValueError names the file."""
    path = Path(folder) / "metadata.jsonl"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; make it with stages.sample (or snakemake)")
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not JSON lines: {error}") from None


def read_folder(folder: Path | str, size: tuple[int, int] | None = None) -> Tensor:
    """All of `each_picture` at once, (N, 3, H, W); ValueError if sizes differ and no `size` is given."""
    pictures = list(each_picture(folder, size))
    if len({picture.shape for picture in pictures}) > 1:
        raise ValueError(f"{folder}: pictures differ in size, and the backbone names none to fit them to")
    return torch.stack(pictures)


def each_picture(folder: Path | str, size: tuple[int, int] | None = None) -> Iterator[Tensor]:
    """Yields every PNG and JPEG of a folder by name, (3, H, W) in [0, 1], cropped to the middle and resized to `size`.

    FileNotFoundError for a folder without pictures, ValueError for a picture that cannot be read.
    """
    paths = sorted(path for path in Path(folder).glob("*") if path.suffix.lower() in (".png", ".jpg", ".jpeg"))
    if not folder or not paths:
        raise FileNotFoundError(f"{folder or 'images'}: no PNG or JPEG pictures to learn from")
    for path in paths:
        fitted = _opened(path)
        if size and (fitted.height, fitted.width) != tuple(size):
            fitted = ImageOps.fit(fitted, (size[1], size[0]), Image.Resampling.LANCZOS)
        yield _tensor(fitted)


def read_picture(folder: Path, line: dict[str, Any]) -> Tensor:
    """The picture (3, H, W) or clip (F, 3, H, W) of one line of a folder's metadata, in [0, 1]."""
    if "frames" in line:
        return torch.stack([_png(folder / line["file"] / f"{i:02d}.png") for i in range(line["frames"])])
    return _png(folder / line["file"])


def _png(path: Path) -> Tensor:
    return _tensor(_opened(path))


def _opened(path: Path) -> Image.Image:
    """The file in RGB; ValueError for one that is no picture or not whole."""
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except FileNotFoundError:
        raise
    except (OSError, SyntaxError) as error:  # Pillow calls what breaks off in a PNG a syntax error
        raise ValueError(f"{path}: not a whole picture: {error}") from None


def _tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.asarray(image).copy()).movedim(-1, 0).float() / 255
