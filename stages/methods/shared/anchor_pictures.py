"""Anchor pictures as Concept Ablation trains on them (arXiv 2303.13516): the frozen network's, shrunk or enlarged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from stages.backbones.core.base import Backbone
from stages.control.state import Condition
from stages.methods.shared.base import Prompts
from stages.seeds import Purpose, hashed
from stages.store.pictures import read_folder

NEAR, FAR = "close up ", "a far away "  # what a prompt begins with if its picture is enlarged, or shrunk below SMALL
PREFIXES = ("", NEAR, FAR)
SHRUNK, SMALL = 2 / 3, 0.6  # share of pictures that are shrunk; side from which a prompt says so
SMALLEST, ENLARGED = 1 / 3, (1.2, 1.4)  # sides, as shares of the picture's
GREY = 0.5  # around a shrunk picture


@dataclass(frozen=True)
class Batch:
    """Rows of a training step."""

    pictures: Tensor  # (B, 3, H, W) or (B, F, 3, H, W) in [0, 1]
    inside: Tensor  # (B, H, W) boolean: where there is a picture
    rows: list[int]  # of the pairs that they show
    prefixes: list[int]  # that the prompts begin with, as positions in PREFIXES


@dataclass(frozen=True)
class AnchorPictures:
    """Pictures of anchors, 8 bits each on the CPU, with the row of the pair that each shows.

    pictures = AnchorPictures.drawn(backbone, concept.neutral, 5, seed)
    batch = pictures.batch(8, generator, augment=True)
    """

    pictures: Tensor  # (n, 3, H, W) or (n, F, 3, H, W), uint8
    rows: tuple[int, ...]

    @classmethod
    @torch.no_grad()
    def drawn(cls, backbone: Backbone, anchors: Sequence[str], each: int, seed: int) -> AnchorPictures:
        """`each` pictures of every anchor by the backbone as it is now."""
        rows = [row for row in range(len(anchors)) for _ in range(each)]
        noise = [hashed(Purpose.POOL, "anchors", seed, i) for i in range(len(rows))]
        settings, parts = backbone.settings, []
        for part in settings.batches(len(rows)):
            condition = backbone.encode([anchors[row] for row in rows[part]])
            drawn = backbone.sample(condition, seeds=noise[part], steps=settings.steps, guidance=settings.guidance)
            parts.append(_bytes(drawn))
        return cls(torch.cat(parts), tuple(rows))

    @classmethod
    def read(cls, folder: str, size: tuple[int, int] | None, pairs: int) -> AnchorPictures:
        """A folder's pictures by name, the i-th of which shows the i-th pair, or all the only one; `size` is (H, W).

        ValueError if there is not one for each pair; FileNotFoundError without pictures.
        """
        pictures = _bytes(read_folder(folder, size))
        if pairs not in (1, len(pictures)):
            raise ValueError(f"{folder}: {len(pictures)} pictures for {pairs} rows of data; a row for each is needed")
        return cls(pictures, tuple(range(len(pictures))) if pairs > 1 else (0,) * len(pictures))

    def batch(self, n: int, generator: torch.Generator, *, augment: bool) -> Batch:
        """n random pictures, mirrored and resized at random if asked."""
        chosen = torch.randint(len(self.rows), (n,), generator=generator).tolist()
        pictures = [self.pictures[i].float() / 255 for i in chosen]
        insides = [torch.ones(picture.shape[-2:], dtype=torch.bool) for picture in pictures]
        prefixes = [0] * n
        if augment:
            made = [resized(_mirrored(picture, generator), generator) for picture in pictures]
            pictures, insides = [one for one, _, _ in made], [one for _, one, _ in made]
            prefixes = [one for _, _, one in made]
        return Batch(torch.stack(pictures), torch.stack(insides), [self.rows[i] for i in chosen], prefixes)


def resized(picture: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, int]:
    """A picture or clip (..., 3, H, W), shrunk onto grey or enlarged beyond its frame; where it is (H, W); its prefix.

    Two thirds of all are shrunk, to a third of their side and more.
    """
    shrunk, share, *place = torch.rand(4, generator=generator).tolist()
    low, high = (SMALLEST, 1.0) if shrunk < SHRUNK else ENLARGED
    side = low + (high - low) * share
    height, width = picture.shape[-2:]
    size = [max(1, round(side * length)) for length in (height, width)]
    flat = picture.reshape(-1, *picture.shape[-3:])
    small = interpolate(flat, size=size, mode="bilinear", antialias=True, align_corners=False).clamp(0, 1)
    at = [round(share * abs(new - old)) for share, new, old in zip(place, size, (height, width), strict=True)]
    inside = torch.ones(height, width, dtype=torch.bool)
    if side > 1:
        rows, columns = (slice(start, start + length) for start, length in zip(at, (height, width), strict=True))
        return small[..., rows, columns].reshape(picture.shape), inside, PREFIXES.index(NEAR)
    rows, columns = (slice(start, start + length) for start, length in zip(at, size, strict=True))
    canvas = torch.full_like(flat, GREY)
    canvas[..., rows, columns] = small
    inside = torch.zeros_like(inside)
    inside[rows, columns] = True
    return canvas.reshape(picture.shape), inside, PREFIXES.index(FAR if side < SMALL else "")


def encoded(backbone: Backbone, prompts: Sequence[str]) -> Prompts:
    """The prompts without a prefix, then with each: row `prefix * len(prompts) + i` has prompt i."""
    return Prompts.of(backbone, [prefix + prompt for prefix in PREFIXES for prompt in prompts])


def said(prompts: Prompts, batch: Batch) -> Condition:
    """What `encoded` has for a batch."""
    many = len(prompts.condition) // len(PREFIXES)
    return prompts.condition.rows([prefix * many + row for prefix, row in zip(batch.prefixes, batch.rows, strict=True)])


def only_inside(prediction: Tensor, target: Tensor, inside: Tensor) -> Tensor:
    """The prediction (B, ..., h, w) with the target outside the pictures (B, H, W): the mean squared error of the two
    is that of each row's inside, averaged over rows. A latent's place is inside if all of its pixels are."""
    height, width = prediction.shape[-2:]
    share = adaptive_avg_pool2d(inside.float()[:, None], (height, width))[:, 0].to(prediction.device)
    kept = (share > 1 - 1e-4).to(prediction.dtype)
    weight = kept * (kept[0].numel() / kept.sum((1, 2), keepdim=True).clamp(min=1)).sqrt()
    weight = weight.view(len(weight), *[1] * (prediction.ndim - 3), height, width)
    return target + (prediction - target) * weight


def _mirrored(picture: Tensor, generator: torch.Generator) -> Tensor:
    return picture.flip(-1) if torch.rand((), generator=generator) < 0.5 else picture


def _bytes(pictures: Tensor) -> Tensor:
    return (pictures.clamp(0, 1) * 255).round().to(torch.uint8).cpu()
