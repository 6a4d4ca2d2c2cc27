"""The judge of the world of shapes as metrics read it."""

from functools import cache

import torch
from torch import Tensor

from stages.metrics.base import Samples
from stages.worlds.captions import DIRECTIONS
from stages.worlds.judge import Judge
from stages.worlds.shapes import Shapes

JUDGE = "artifacts/worlds/shapes/judge"


@cache
def load_judge(folder: str) -> Judge:
    """Returns a saved judge, loaded once."""
    return Judge.load(folder)


def frames(images: Tensor) -> Tensor:
    """Returns pictures (N, 3, H, W), or all the frames of clips one after another."""
    return images.reshape(-1, *images.shape[-3:])


def real_twins(judge: Judge, samples: Samples, n: int, seed: int) -> Tensor:
    """Returns at least `n` renders with the labels asked for, each row as often; a label left open is drawn evenly."""
    generator = torch.Generator().manual_seed(seed)
    world = Shapes(size=samples.images.shape[-1], colours=judge.colours, shapes=judge.shapes)
    clips = samples.images.shape[1] if samples.images.ndim == 5 else 1
    times = -(-n // (clips * len(samples.rows)))
    colour = asked(samples, "colour", world.colours, times, generator)
    shape = asked(samples, "shape", world.shapes, times, generator)
    if samples.images.ndim == 4:
        return world.render(colour, shape, generator)
    return world.film(colour, shape, asked(samples, "direction", DIRECTIONS, times, generator), generator, clips)


def asked(samples: Samples, label: str, names: tuple[str, ...], times: int, generator: torch.Generator) -> Tensor:
    """Returns the index of the label each row asks for, `times` over, (N * times,)."""
    open_rows = torch.randint(len(names), (times, len(samples.rows)), generator=generator)
    known = torch.tensor([names.index(row[label]) if row.get(label) in names else -1 for row in samples.rows])
    return torch.where(known < 0, open_rows, known).flatten()
