"""Picture files of any origin, read as a viewer shows them: upright, over white if transparent, in sRGB, 8 bits."""

from __future__ import annotations

import io
import logging
import struct
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

FOREIGN = (".avif", ".heic", ".heif", ".jxl", ".svg", ".cr2", ".cr3", ".nef", ".arw", ".dng")  # pictures all the same
DOCUMENTS = ("EPS", "PDF", "WMF", "MPEG", "HDF5", "GRIB", "BUFR", "FITS")  # that Pillow names, and reads with help only
WHITE = (255, 255, 255, 255)

log = logging.getLogger(__name__)


class _UnusableError(ValueError):
    """A whole file whose values have no meaning as colours."""


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
            raise ValueError(f"{path}: Pillow reads no {path.suffix.lower()} here; save it as PNG or JPEG") from None
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
        changed = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
        return changed or image.convert("RGB")  # None is for changes in place alone
    except (ImageCms.PyCMSError, OSError) as error:
        log.warning("a colour profile is passed over: %s", error)
        return image.convert("RGB")
