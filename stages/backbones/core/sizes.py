"""Sizes of pictures and lengths of clips that a family cannot draw: refused, with the nearest that it can."""

from __future__ import annotations

from collections.abc import Iterable

from stages.backbones.core.settings import Settings

CLOSE = 0.01  # share by which height over width may differ from a template's: templates are rounded


def check_size(name: str, size: tuple[int, int] | None, multiple: int, most: int | None = None) -> None:
    """ValueError unless height and width in pixels are multiples of `multiple` and at most `most`."""
    for side, pixels in zip(("height", "width"), size or (), strict=False):
        if most is not None and pixels > most:
            raise ValueError(f"{name}: size: {side} must be at most {most}, got {pixels}")
        if pixels % multiple:
            raise ValueError(
                f"{name}: size: {side} must be a multiple of {multiple}, got {pixels}{_near(pixels, multiple)}"
            )


def check_frames(name: str, frames: int, fold: int) -> None:
    """ValueError unless a clip has 1 + fold n frames; 0 stands for the checkpoint's own number."""
    if frames and (frames - 1) % fold:
        raise ValueError(f"{name}: frames must be 1 + {fold} n, got {frames}{_near(frames, fold, 1)}")


def check_ratio(name: str, size: tuple[int, int] | None, ratios: Iterable[float]) -> None:
    """ValueError unless height over width is that of one of the templates."""
    if size is None:
        return
    ratio = size[0] / size[1]
    near = sorted(ratios, key=lambda template: abs(template - ratio))[:2]
    if abs(near[0] - ratio) > CLOSE * ratio:
        wanted = f"{name}: size: no template of height over width {ratio:.3f} ({size[0]} x {size[1]})"
        raise ValueError(f"{wanted}; the nearest {'is' if len(near) == 1 else 'are'} {' and '.join(map(str, near))}")


def check_picture(name: str, settings: Settings) -> None:
    """ValueError for frames asked of a family that draws pictures."""
    if settings.frames:
        raise ValueError(f"{name}: draws pictures, so frames must be 0, got {settings.frames}")


def _near(value: int, multiple: int, first: int = 0) -> str:
    below = (value - first) // multiple * multiple + first
    return f"; the nearest are {below} and {below + multiple}" if below > 0 else f"; the nearest is {below + multiple}"
