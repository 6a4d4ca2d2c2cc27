"""Sampled images as they are shown: clips, thumbnails, blur, and data URIs."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageFilter

from stages.store.pictures import read_metadata

PIXEL_ART = 64  # up to this many pixels a side an image is shown enlarged, pixel by pixel
THUMBNAIL = 160  # pixels a side of anything larger
COLOURS = 32  # of a small image
FRAME_MS = 160  # that a clip shows each frame


@dataclass(frozen=True)
class Sample:
    """One image of a run; a clip has a folder of frames beside its playable file."""

    folder: Path  # of its prompt set
    entry: Mapping[str, Any]  # its line of metadata.jsonl

    @property
    def index(self) -> int:
        return int(self.entry["index"])

    @property
    def prompt(self) -> str:
        return str(self.entry["prompt"])

    @property
    def seed(self) -> int:
        return int(self.entry["seed"])

    @property
    def clip(self) -> bool:
        return int(self.entry.get("frames") or 1) > 1

    def frames(self) -> list[Image.Image]:
        """The images of a clip in order, or the one image; ValueError for a file that is missing or no image."""
        path = self.folder / str(self.entry["file"])
        paths = sorted(path.with_suffix("").glob("*.png")) if self.clip else [path]
        if not paths:
            raise ValueError(f"{path.with_suffix('')}: no frames (*.png) of this clip")
        return [_open(path) for path in paths]


def samples_in(folder: Path) -> list[Sample]:
    """The samples of a folder in the order of its metadata.jsonl.

    FileNotFoundError or ValueError if that is missing or broken.
    """
    return [Sample(folder, entry) for entry in read_metadata(folder)]


def _open(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except OSError as error:
        raise ValueError(f"{path}: cannot be read as an image ({type(error).__name__})") from None


def middle(frames: list[Image.Image]) -> Image.Image:
    """The frame that stands for a clip in a still figure."""
    return frames[len(frames) // 2]


def blurred(image: Image.Image) -> Image.Image:
    """The image with nothing to recognise in it: averaged to at most 4 x 4 patches, then smoothed."""
    coarse = image.resize((min(4, image.width), min(4, image.height)), Image.Resampling.BOX)
    return coarse.resize(image.size, Image.Resampling.BICUBIC).filter(ImageFilter.GaussianBlur(max(image.size) / 16))


def fitted(image: Image.Image, side: int) -> Image.Image:
    """The image enlarged by whole pixels up to `side`, or reduced to it."""
    longest = max(image.size)
    if longest <= side:
        factor = side // longest
        return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    scale = side / longest
    return image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)


def data_uri(frames: list[Image.Image]) -> str:
    """Pixel art as a PNG of few colours, anything larger as a WebP thumbnail, a clip as a looping WebP."""
    buffer, art = io.BytesIO(), max(frames[0].size) <= PIXEL_ART
    if len(frames) > 1:  # enlarged, since WebP halves the resolution of colour
        scaled = [fitted(image, 2 * max(image.size) if art else THUMBNAIL) for image in frames]
        scaled[0].save(buffer, "WEBP", save_all=True, append_images=scaled[1:], duration=FRAME_MS, loop=0, quality=75)
        return _uri("webp", buffer)
    if art:
        frames[0].quantize(COLOURS, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(
            buffer, "PNG", optimize=True
        )
        return _uri("png", buffer)
    fitted(frames[0], THUMBNAIL).save(buffer, "WEBP", quality=80)
    return _uri("webp", buffer)


def _uri(kind: str, buffer: io.BytesIO) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
