"""A judge that is told what it sees: the first pixels of a picture (of a clip, of each frame) hold class numbers."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

from stages.metrics.judged import load_judge
from stages.metrics.samples import Samples, frames
from stages.worlds.judge import Judge, Verdict, direction
from stages.worlds.shapes import Shapes

WORLD = Shapes()
NAMES = {"colour": (*WORLD.colours, "none"), "shape": (*WORLD.shapes, "none")}


class Told(Judge):
    def __init__(self) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            super().__init__(WORLD.colours, WORLD.shapes, width=4, depth=8)
        self.eval().requires_grad_(False).standardise(WORLD.sample(256, 0).images)

    def look(self, images: Tensor) -> Verdict:
        pictures = frames(images)
        classes = [torch.eye(5)[(pictures[:, 0, 0, i] * 8).round().long()] for i in range(2)]
        each = Verdict(self.colours, self.shapes, *classes)
        return each if images.ndim == 4 else each.over_clips(direction(images))


@contextmanager
def read_from_files(judge: Judge) -> Iterator[Judge]:
    """Every file of a judge holds this one while open."""
    load_judge.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Judge, "load", lambda folder: judge)
        yield judge
    load_judge.cache_clear()


def samples(seen: list[str], asked: list[str], target: dict[str, str]) -> Samples:
    """`seen` and `asked` are such as "red circle"; a label left open is "-"."""
    images = torch.full((len(seen), 3, 32, 32), 0.5)
    for i, words in enumerate(seen):
        for j, (label, word) in enumerate(zip(("colour", "shape"), words.split(), strict=True)):
            images[i, 0, 0, j] = NAMES[label].index(word) / 8
    rows = []
    for i, words in enumerate(asked):
        colour, shape = (word.replace("-", "") for word in words.split())
        rows.append({"prompt": words, "seed": i, "colour": colour, "shape": shape})
    return Samples(images, rows, target)
