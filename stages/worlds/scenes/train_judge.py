"""Training of the judge of scenes: on fresh renders, softened as a decoder would, and on pictures of nothing clear."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from stages.seeds import Purpose, generator, seed_of
from stages.training.minimize import minimize
from stages.training.progress import History
from stages.training.settings import from_scratch
from stages.worlds.scenes.judge import SECOND, Judge
from stages.worlds.scenes.labels import LABELS, OPPOSITE
from stages.worlds.scenes.world import Scenes
from stages.worlds.train_judge import soften

SPOILED = 0.25  # share of a batch that shows no clear object or figure
MOVED = 0.125  # share of a batch that is from clips
IGNORED = -100  # a label that the loss does not read
KEPT = 0.65  # share of the softening that a decoder's pictures have at most: they are sharper than averages of 2 x 2
Labels = dict[str, Tensor]
Spoiler = Callable[[Tensor, torch.Generator], Tensor]  # pictures (N, 3, H, W) -> the same, spoiled


def train_judge(
    world: Scenes, *, seed: int, steps: int = 2000, batch: int = 64, lr: float = 3e-3
) -> tuple[Judge, History]:
    """Returns a judge in evaluation mode and its losses; `batch` pictures are drawn per step, of every figure."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(Purpose.WEIGHTS, seed))
        judge = Judge()
    every = replace(world, withheld=())
    wider = replace(every, offset=2 * world.offset, rotation=1.5 * world.rotation, spread=2 * world.spread)

    def loss(step: int, owner: torch.Generator) -> Tensor:
        images, labels = training_batch(wider, batch, owner)
        logits = judge(images)
        losses = [functional.cross_entropy(logits[kind], labels[kind], ignore_index=IGNORED) for kind in LABELS]
        return torch.stack(losses).nan_to_num(0.0).sum()

    history = minimize(loss, judge.parameters(), from_scratch(steps, lr), seed=seed, label="judge")
    judge.eval().requires_grad_(False)
    owner = generator(Purpose.WORLD, seed, 1)  # what backbones are trained on is drawn by index 0
    fresh = every.draw(4096, owner).images
    judge.standardise(fresh[:2048])
    soft = soften(fresh[:2048], owner)
    judge.calibrate(fresh[2048:], soft, every.draw_clips(512, owner, frames=3).images)
    return judge, history


def training_batch(world: Scenes, n: int, owner: torch.Generator) -> tuple[Tensor, Labels]:
    """Returns pictures (N, 3, H, W) and the class of each kind (N,), IGNORED where it cannot be told.

    The first quarter is spoiled, each part in another way; the last eighth are frames of clips.
    """
    films = int(MOVED * n) // 2
    batch = world.draw(n - 2 * films, owner)
    images, labels = batch.images, classes(batch.labels)
    parts = torch.tensor_split(torch.arange(int(SPOILED * n)), len(SPOILERS))
    for rows, (spoil, kept) in zip(parts, SPOILERS.values(), strict=True):
        images[rows] = spoil(images[rows], owner)
        for kind, names in LABELS.items():
            if kind not in kept:
                labels[kind][rows] = IGNORED if kind in ("texture", "style") and "colour" in kept else len(names)
    if films:
        moving = world.draw_clips(films, owner, frames=2)
        frames = {kind: moving.labels[kind].repeat_interleave(2) for kind in LABELS}
        images = torch.cat([images, moving.images.flatten(0, 1)])
        shown = classes(frames) | {"place": torch.full((2 * films,), IGNORED)}
        labels = {kind: torch.cat([labels[kind], shown[kind]]) for kind in LABELS}
    return softened(images, owner), labels


def classes(labels: Mapping[str, Tensor]) -> Labels:
    """The class of each kind (N,): an index, or the number of its names for none; of two objects, the left or upper
    one is the first.
    """
    place = labels["place"]
    swapped = (labels["other_object"] >= 0) & ((place == 2) | (place == 4))
    first = {kind: torch.where(swapped, labels[SECOND.get(kind, kind)], labels[kind]) for kind in LABELS}
    first["place"] = torch.where(swapped, torch.tensor(OPPOSITE)[place], place)
    return {kind: torch.where(values < 0, len(LABELS[kind]), values) for kind, values in first.items()}


def accuracy(judge: Judge, images: Tensor, labels: Mapping[str, Tensor]) -> dict[str, float]:
    """The share of pictures (N, 3, H, W), or clips, whose likeliest name is right, none included, by kind of label."""
    answers, truth = judge.look(images).answers, classes(labels)
    return {kind: float((answers[kind].argmax(1) == truth[kind]).float().mean()) for kind in answers}


def softened(images: Tensor, owner: torch.Generator) -> Tensor:
    """Returns pictures (N, 3, H, W), blurred, tinted and noisy to a different degree each."""
    return torch.lerp(images, soften(images, owner), KEPT)


def shuffled(images: Tensor, owner: torch.Generator) -> Tensor:
    """Square tiles in another order: 4 x 4 of them, or 8 x 8."""
    n, _, size, _ = images.shape
    mixed = torch.empty_like(images)
    for rows, across in zip(torch.arange(n).tensor_split(2), (4, 8), strict=True):
        tiles = functional.unfold(images[rows], size // across, stride=size // across)
        for i, row in enumerate(rows.tolist()):
            order = torch.randperm(across * across, generator=owner)
            mixed[row] = functional.fold(tiles[i][:, order], size, size // across, stride=size // across)
    return mixed


def half_noise(images: Tensor, owner: torch.Generator) -> Tensor:
    """As much noise as picture, or more, as in the middle of a diffusion."""
    share = 0.5 + 0.45 * torch.rand(len(images), 1, 1, 1, generator=owner)
    noise = torch.randn(images.shape, generator=owner)
    return ((1 - share).sqrt() * (2 * images - 1) + share.sqrt() * noise).div(2).add(0.5).clamp(0, 1)


def blended(images: Tensor, owner: torch.Generator) -> Tensor:
    """The mean of each picture and another."""
    return (images + images.roll(1, 0)) / 2


def static(images: Tensor, owner: torch.Generator) -> Tensor:
    """Smooth noise of random colours."""
    coarse = torch.rand(len(images), 3, images.shape[-1] // 8, images.shape[-1] // 8, generator=owner)
    return functional.interpolate(coarse, size=images.shape[-2:], mode="bilinear")


def blank(images: Tensor, owner: torch.Generator) -> Tensor:
    """The colour of a corner from edge to edge."""
    return images[:, :, 1:2, 1:2].expand_as(images)


def rolled(images: Tensor, owner: torch.Generator) -> Tensor:
    """Cut into four and put together at the corners."""
    half = images.shape[-1] // 2
    return images.roll((half, half), (2, 3))


SPOILERS: dict[str, tuple[Spoiler, tuple[str, ...]]] = {  # and the kinds that the picture still shows
    "shuffled": (shuffled, ("colour", "background")),
    "half-noised": (half_noise, ()),
    "blended": (blended, ()),
    "blank": (blank, ("background",)),
    "static": (static, ()),
    "rolled": (rolled, ("colour", "background")),
}
