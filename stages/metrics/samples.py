"""The samples that metrics read: pictures or clips of one prompt set with their labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from stages.params.datasets import Target
from stages.store.pictures import read_metadata, read_picture


@dataclass(frozen=True)
class Samples:
    """Pictures or clips of one prompt set with the rows of their metadata.

    `floats` and `parts` turn bytes into numbers for a few samples at a time, since a whole set can fill the memory.
    """

    images: Tensor  # (N, 3, H, W) or (N, F, 3, H, W): bytes as files hold them, or numbers in [0, 1]
    rows: Sequence[Mapping[str, Any]]  # N lines of metadata.jsonl: prompt, seed, labels
    target: Target  # the labels of the concept, such as {"colour": "red"}
    sizes: Sequence[tuple[int, int]] | None = None  # N times height and width, if they differ: the rest is padding

    def __post_init__(self) -> None:
        if len(self.images) != len(self.rows) or not len(self.rows):
            raise ValueError(f"expected samples and a row for each, got {len(self.images)}, {len(self.rows)}")
        if self.images.is_floating_point():
            finite(self.images, self, "pictures")

    @property
    def pictures(self) -> list[int]:
        """The number of each sample's picture among the different ones: those of one prompt and seed are one."""
        numbers: dict[tuple[str, int], int] = {}
        return [numbers.setdefault((row["prompt"], row["seed"]), len(numbers)) for row in self.rows]

    def different(self) -> Samples:
        """The first sample of each picture."""
        pictures = self.pictures
        first = [pictures.index(number) for number in range(max(pictures) + 1)]
        if len(first) == len(pictures):
            return self
        return self.only(first)

    def only(self, numbers: Sequence[int]) -> Samples:
        """Some of the samples, of one size without the padding if they all have it."""
        rows, images = [self.rows[i] for i in numbers], self.images[list(numbers)]
        sizes = None if self.sizes is None else [self.sizes[i] for i in numbers]
        if sizes is not None and len(set(sizes)) == 1:
            images, sizes = images[..., : sizes[0][0], : sizes[0][1]], None
        return replace(self, images=images, rows=rows, sizes=sizes)

    def by_size(self) -> list[tuple[list[int], Samples]]:
        """The samples of each size with their numbers: what judges look at, since padding is no part of a picture."""
        if self.sizes is None:
            return [(list(range(len(self.rows))), self)]
        alike: dict[tuple[int, int], list[int]] = {}
        for number, size in enumerate(self.sizes):
            alike.setdefault(size, []).append(number)
        return [(numbers, self.only(numbers)) for numbers in alike.values()]

    @property
    def prompts(self) -> list[str]:
        """The prompt of each sample, N of them."""
        return [str(row["prompt"]) for row in self.rows]

    def parts(self, frames: int = 256) -> Iterator[Samples]:
        """Yields a few whole samples at a time in [0, 1]: at most `frames` pictures, but at least one sample."""
        size = max(1, frames // (self.images.shape[1] if self.images.ndim == 5 else 1))
        for first in range(0, len(self.rows), size):
            part = slice(first, first + size)
            yield replace(self, images=floats(self.images[part]), rows=self.rows[part])


def floats(images: Tensor) -> Tensor:
    """Pictures of any shape in [0, 1]: bytes are divided by 255, numbers left as they are."""
    return images.float() / 255 if images.dtype == torch.uint8 else images


def frames(images: Tensor) -> Tensor:
    """Pictures (N, 3, H, W) as they are; clips (N, F, 3, H, W) frame by frame, (N * F, 3, H, W)."""
    return images.reshape(-1, *images.shape[-3:])


def of_each_size(samples: Samples, features: Callable[[Tensor], Tensor]) -> Tensor:
    """Features (N, ...) of samples in their order, of pictures of one size at a time and without their padding."""
    groups = samples.by_size()
    every = torch.cat([features(part.images) for _, part in groups])
    return every[torch.tensor([number for numbers, _ in groups for number in numbers]).argsort().to(every.device)]


def finite(values: Tensor, samples: Samples, name: str = "features") -> Tensor:
    """Returns values (N, ...) unchanged; FloatingPointError names the first sample that has a NaN or an infinity."""
    broken = ~values.isfinite().reshape(len(values), -1).all(1)
    if broken.any():
        number = int(broken.nonzero()[0])
        raise FloatingPointError(f"{samples.rows[number].get('file', f'sample {number}')}: {name} are not finite")
    return values


@dataclass(frozen=True)
class SampleFolders(Mapping[str, Samples]):
    """The prompt sets of one run, each read from disk at every access and not kept: one set of clips fills a memory."""

    folder: Path  # of the run's samples, with a folder for each prompt set
    names: Sequence[str]  # of the prompt sets
    target: Target  # the labels of the concept

    def __getitem__(self, name: str) -> Samples:
        return read_samples(self.folder / name, self.target)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


def read_samples(folder: str | Path, target: Target) -> Samples:
    """The samples of one folder that stages.sample wrote, their images as bytes.

    Rows that were asked for in several sizes are padded to the largest, and `sizes` says what each one has.
    FileNotFoundError or ValueError names a file that is missing, broken or of another size than it should be.
    """
    folder = Path(folder)
    rows = tuple(read_metadata(folder))
    images = [(255 * read_picture(folder, row)).round().byte() for row in rows]
    if not images:
        raise ValueError(f"{folder / 'metadata.jsonl'}: no samples in it")
    sized = len({(row.get("height"), row.get("width")) for row in rows}) > 1
    for image, row in zip(images, rows, strict=True):
        asked = (*images[0].shape[:-2], int(row["height"]), int(row["width"])) if sized and "width" in row else None
        if (image.shape != asked) if asked else (not sized and image.shape != images[0].shape):
            said = f"{tuple(image.shape)} instead of {tuple(asked or images[0].shape)}"
            raise ValueError(f"{folder / row['file']}: of another size than the first sample: {said}")
    sizes = [(image.shape[-2], image.shape[-1]) for image in images]
    if len(set(sizes)) == 1:
        return Samples(torch.stack(images), rows, target)
    height, width = (max(side) for side in zip(*sizes, strict=True))
    padded = [pad(image, (0, width - image.shape[-1], 0, height - image.shape[-2])) for image in images]
    return Samples(torch.stack(padded), rows, target, sizes)
