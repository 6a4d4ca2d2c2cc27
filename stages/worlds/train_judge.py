"""Training of the judge: on fresh renders, softened as a decoder would, and on pictures without a clear shape."""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from stages.seeds import Purpose, seed_of
from stages.training.minimize import minimize
from stages.training.progress import History
from stages.training.settings import from_scratch
from stages.worlds.judge import Judge
from stages.worlds.shapes import Shapes

SPOILED = 0.25  # share of a batch without a clear shape
Spoiled = tuple[Tensor, Tensor | int, int]  # pictures (N, 3, H, W), and the colour and shape that they still show


def train_judge(
    world: Shapes, *, seed: int, steps: int = 400, batch: int = 64, lr: float = 4e-3
) -> tuple[Judge, History]:
    """Returns a judge in evaluation mode and its losses; `batch` pictures are drawn per step."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(Purpose.WEIGHTS, seed))
        judge = Judge(world.colours, world.shapes)

    low, high = world.radius
    wider = replace(world, radius=(0.75 * low, 1.05 * high), offset=world.offset + world.travel / 2)  # clips move, too

    def loss(step: int, generator: torch.Generator) -> Tensor:
        images, colour, shape = training_batch(wider, batch, generator)
        colours, shapes = judge(images)
        return functional.cross_entropy(colours, colour) + functional.cross_entropy(shapes, shape)

    history = minimize(loss, judge.parameters(), from_scratch(steps, lr), seed=seed, label="judge")
    judge.eval().requires_grad_(False).standardise(world.sample(2048, seed).images)
    return judge, history


def training_batch(world: Shapes, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Returns pictures (N, 3, H, W), their colours (N,) and shapes (N,); the first quarter has no clear shape."""
    batch = world.draw(n, generator)
    images, colour, shape = (torch.clone(part) for part in (batch.images, batch.colour, batch.shape))
    parts = torch.tensor_split(torch.arange(int(SPOILED * n)), len(SPOILERS))
    for rows, spoil in zip(parts, SPOILERS, strict=True):
        images[rows], colour[rows], shape[rows] = spoil(world, images[rows], colour[rows], shape[rows], generator)
    return soften(images, generator), colour, shape


def soften(images: Tensor, generator: torch.Generator) -> Tensor:
    """Returns the pictures (N, 3, H, W), slightly blurred, tinted and noisy, in [0, 1]."""
    n = len(images)
    blurred = functional.interpolate(functional.avg_pool2d(images, 2), scale_factor=2, mode="bilinear")
    share = torch.rand(n, 1, 1, 1, generator=generator) * (torch.rand(n, 1, 1, 1, generator=generator) < 0.5)
    tint = 0.05 * torch.randn(n, 3, 1, 1, generator=generator)
    noise = 0.08 * torch.rand(n, 1, 1, 1, generator=generator) * torch.randn(images.shape, generator=generator)
    return (torch.lerp(images, blurred, share) + tint + noise).clamp(0, 1)


def static(world: Shapes, images: Tensor, colour: Tensor, shape: Tensor, generator: torch.Generator) -> Spoiled:
    """Smooth noise of random colours: no colour, no shape."""
    coarse = torch.rand(len(images), 3, world.size // 4, world.size // 4, generator=generator)
    smooth = functional.interpolate(coarse, size=images.shape[-2:], mode="bilinear")
    return smooth, len(world.colours), len(world.shapes)


def blank(world: Shapes, images: Tensor, colour: Tensor, shape: Tensor, generator: torch.Generator) -> Spoiled:
    """The background alone: no colour, no shape."""
    return images[:, :, :1, :1].expand_as(images), len(world.colours), len(world.shapes)


def flood(world: Shapes, images: Tensor, colour: Tensor, shape: Tensor, generator: torch.Generator) -> Spoiled:
    """The colour from edge to edge: a colour and no shape."""
    middle = world.size // 2
    return images[:, :, middle, middle, None, None].expand_as(images), colour, len(world.shapes)


def rolled(world: Shapes, images: Tensor, colour: Tensor, shape: Tensor, generator: torch.Generator) -> Spoiled:
    """The shape cut into four, at the corners: a colour and no shape."""
    half = world.size // 2
    return images.roll((half, half), (2, 3)), colour, len(world.shapes)


def blend(world: Shapes, images: Tensor, colour: Tensor, shape: Tensor, generator: torch.Generator) -> Spoiled:
    """The mean of two pictures with other colours and shapes: no clear colour, no clear shape."""
    other = world.render((colour + 1) % len(world.colours), (shape + 1) % len(world.shapes), generator)
    return (images + other) / 2, len(world.colours), len(world.shapes)


SPOILERS = (static, blank, flood, rolled, blend)
