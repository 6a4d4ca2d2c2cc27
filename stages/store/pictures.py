"""Samples as files: lossless PNGs for the metrics, a playable animation beside a clip's frames for people.

Pictures of other origin are read as people see them: turned as their EXIF says, over white if transparent, in sRGB.
"""

from __future__ import annotations

import io
import json
import logging
import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError
from torch import Tensor

from stages.store.finite import REASONS

FOREIGN = (".avif", ".heic", ".heif", ".jxl", ".svg", ".cr2", ".cr3", ".nef", ".arw", ".dng")  # pictures all the same
DOCUMENTS = ("EPS", "PDF", "WMF", "MPEG", "HDF5", "GRIB", "BUFR", "FITS")  # that Pillow names, and reads with help only
LINE = ("file", "prompt", "seed")  # every line of metadata.jsonl has these
WHITE = (255, 255, 255, 255)

log = logging.getLogger(__name__)


class _UnusableError(ValueError):
    """A whole file whose values have no meaning as colours."""


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
        raise FileNotFoundError(f"{path} is missing; sample the run first")
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
    """Every picture of a folder by name (N, 3, H, W) in [0, 1], cropped to the middle and resized to `size` (H, W).

    Hidden files and subfolders are left out; files that are no pictures are left out with a line in the log.
    FileNotFoundError if there are none; ValueError names a picture that is damaged, too large or of a format that
    Pillow cannot read, and a folder whose pictures differ in size if `size` is None.
    """
    paths = picture_files(folder)
    pictures = []
    for path in paths:
        image = open_picture(path)
        if size and (image.height, image.width) != tuple(size):
            image = ImageOps.fit(image, (size[1], size[0]), Image.Resampling.LANCZOS)
        pictures.append(_tensor(image))
    if len({picture.shape for picture in pictures}) > 1:
        raise ValueError(f"{folder}: pictures differ in size, and the backbone names none to fit them to")
    return torch.stack(pictures)


def picture_files(folder: Path | str) -> list[Path]:
    """The pictures of a folder by name, whatever their format; see `read_folder` for the rest."""
    entries = sorted(Path(folder).glob("*")) if folder else []
    visible = [path for path in entries if not path.name.startswith(".")]
    files = [path for path in visible if not path.is_dir()]
    pictures = [path for path in files if _is_picture(path)]
    others = [path.name for path in files if path not in pictures]
    folders = [path.name for path in visible if path.is_dir()]
    if not pictures:
        have = f"; have: {', '.join((others + [f'{name}/' for name in folders])[:5])}" if others or folders else ""
        raise FileNotFoundError(
            f"{folder or 'images'}: no PNG or JPEG pictures to learn from, nor of another format{have}"
        )
    for names, what in ((others, "files that are no pictures"), (folders, "subfolders")):
        if names:
            log.warning("%s: %d %s are left out: %s", folder, len(names), what, ", ".join(names[:3]))
    return pictures


def read_picture(folder: Path, line: dict[str, Any]) -> Tensor:
    """The picture (3, H, W) or clip (F, 3, H, W) of one line of a folder's metadata, in [0, 1].

    FileNotFoundError or ValueError names a file that is missing or damaged.
    """
    if "frames" in line:
        return torch.stack([_png(folder / line["file"] / f"{i:02d}.png") for i in range(line["frames"])])
    return _png(folder / line["file"])


def open_picture(path: Path) -> Image.Image:
    """The file's first frame in RGB as a viewer shows it, turned as its EXIF says and in sRGB.

    What is transparent lies over white; 16 bits become 8. FileNotFoundError; ValueError for a file that is no picture,
    not whole or too large.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow, about odd metadata
            with Image.open(path) as image:
                image.load()
                return _rgb(_turned(image))
    except FileNotFoundError:
        raise
    except _UnusableError as error:
        raise ValueError(f"{path}: {error}") from None
    except UnidentifiedImageError as error:
        if path.suffix.lower() in FOREIGN:
            raise ValueError(
                f"{path}: Pillow reads no {path.suffix.lower()} here; save it as PNG, or install a plugin"
            ) from None
        raise ValueError(f"{path}: not a whole picture: {error}") from None
    except Image.DecompressionBombError as error:
        raise ValueError(f"{path}: too large a picture to open; make it smaller ({error})") from None
    except (OSError, SyntaxError, ValueError, EOFError, MemoryError) as error:  # a PNG that breaks off: a syntax error
        raise ValueError(f"{path}: not a whole picture: {error}") from None


def _is_picture(path: Path) -> bool:
    """By its name, or else by its first bytes."""
    Image.init()
    suffix = path.suffix.lower()
    if suffix in FOREIGN:
        return True
    if suffix in Image.EXTENSION:
        kind = Image.EXTENSION[suffix]
        return kind in Image.OPEN and kind not in DOCUMENTS
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path):
                return True
    except Image.DecompressionBombError:
        return True
    except (OSError, SyntaxError, ValueError):
        return False


def _turned(image: Image.Image) -> Image.Image:
    """Upright as its EXIF says; as it is stored if the EXIF cannot be read."""
    try:
        return ImageOps.exif_transpose(image)
    except (ArithmeticError, LookupError, OSError, SyntaxError, TypeError, ValueError, struct.error):
        return image.copy()


def _rgb(image: Image.Image) -> Image.Image:
    profile = image.info.get("icc_profile")
    if image.mode == "F" or image.mode.startswith("I"):
        image = _eight_bits(image)
    alpha = None
    if image.has_transparency_data:
        image = image.convert("RGBA")
        alpha = image.getchannel("A")
        image = image.convert("RGB")
    elif image.mode == "P":
        image = image.convert("RGB")
    image = _in_srgb(image, profile) if profile else image.convert("RGB")
    if alpha is None:
        return image
    image.putalpha(alpha)
    return Image.alpha_composite(Image.new("RGBA", image.size, WHITE), image).convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """A picture of 16 or 32 bits in grey; ValueError for values that are neither in 16 bits nor in [0, 1]."""
    values = np.asarray(image).astype(np.float64)
    top = 1.0 if image.mode == "F" else 65535.0
    if not np.isfinite(values).all() or values.min() < 0 or values.max() > top:
        raise _UnusableError(f"a picture of mode {image.mode} needs values from 0 to {top:g}")
    return Image.fromarray((values / top * 255).round().astype(np.uint8))


def _in_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """The picture in sRGB, by its embedded profile; a profile that cannot be used is passed over."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "srgb" in ImageCms.getProfileDescription(source).lower():
            return image.convert("RGB")
        if image.mode not in ("RGB", "CMYK", "L"):
            image = image.convert("RGB")
        return ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError) as error:
        log.warning("a colour profile is passed over: %s", error)
        return image.convert("RGB")


def _png(path: Path) -> Tensor:
    return _tensor(open_picture(path))


def _tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.asarray(image).copy()).movedim(-1, 0).float() / 255
