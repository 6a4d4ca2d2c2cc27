"""Training a small generator on a world from random weights: the pretrain rule, and the oracle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stages.backbones.core.base import freeze
from stages.backbones.core.family import Family
from stages.backbones.core.preview import preview
from stages.backbones.core.settings import Settings
from stages.backbones.loading.by_name import choose_device
from stages.params import construct
from stages.params.project import located
from stages.params.types import Count, Fraction, Rate
from stages.store.tracking import paint_with
from stages.training.minimize import minimize
from stages.training.progress import History
from stages.training.settings import Schedule, Training
from stages.worlds.by_name import Drawn, Exclude, make_tokenizer, make_world

WORLDS = "artifacts/worlds"  # the folder of worlds and their parts


@dataclass(frozen=True, kw_only=True)
class Recipe(Training):
    """How a world's backbone is trained: the `pretrain` of its file."""

    batch: Count = 32
    lr: Rate = 2e-3
    schedule: Schedule = "cosine"
    warmup: Count = 50
    images: Count = 16384  # or clips
    ema: Fraction = 0.995
    draws: Count = 1  # of each training time, of which the noisiest counts: form is decided at high noise
    clip: Rate | None = 1.0
    seed: int = 0
    exclude: str | tuple[str, ...] | None = None  # concepts that are never rendered nor named, such as `yellow cross`
    world: Mapping[str, Any] = field(default_factory=dict)  # fields of the world that are not its defaults


def pretrain(
    cls: type[Family],
    name: str,
    settings: Settings,
    *,
    seed: int = 0,
    exclude: Exclude = None,
    device: str | None = None,
    worlds: Path | str = WORLDS,
) -> Family:
    """A backbone of class `cls` trained from scratch on its world; what to `exclude` is never rendered nor named.

    ValueError for a recipe with unknown fields; FileNotFoundError if the world's autoencoder is not trained yet.
    """
    recipe = construct(Recipe, settings.pretrain, f"{name}: pretrain")
    world = world_of(name, settings)
    vae = cls.load_autoencoder(located(worlds) / world / settings.autoencoder)
    backbone = cls.create(name, settings, make_tokenizer(world), vae, recipe.seed + seed, choose_device(name, device))
    train(backbone, render(settings, recipe, seed, exclude), recipe, seed)
    freeze(backbone.modules().values())
    return backbone


def world_of(name: str, settings: Settings) -> str:
    """The world that a backbone is trained on; ValueError for a finished checkpoint."""
    if settings.world is None:
        raise ValueError(f"{name} is a checkpoint at {settings.path}, and no world is there to train it on")
    return settings.world


def render(settings: Settings, recipe: Recipe, seed: int, exclude: Exclude = None) -> Drawn:
    """Captioned pictures of the world, or clips of settings.frames frames, without what is to be left out.

    Both the recipe and `exclude` can name concepts. ValueError for one that is not of the world.
    """
    name = world_of(settings.path, settings)
    world, seed = make_world(name, recipe.world, "pretrain: world"), recipe.seed + seed
    left_out = [*_concepts(recipe.exclude), *_concepts(exclude)]
    if settings.frames:
        return world.clips(recipe.images, seed, settings.frames, left_out)
    return world.sample(recipe.images, seed, left_out)


def _concepts(exclude: Exclude) -> tuple[str, ...]:
    return (exclude,) if isinstance(exclude, str) else tuple(exclude or ())


def train(backbone: Family, data: Drawn, recipe: Recipe, seed: int) -> History:
    """Fits network and text encoder jointly to captioned pictures or clips; leaves the averaged weights in place.

    Parts stay in evaluation mode: the dropout of diffusers and transformers (labels of a DiT among it) draws from the
    global generator, which nobody owns. Captions or the family's training loss drop texts instead.
    """
    latents = embed_all(backbone, data.images)
    parts = [backbone.net, *backbone.texts.encoders().values()]
    parameters = [p for part in parts for p in part.requires_grad_(True).parameters()]

    def loss(step: int, generator: torch.Generator) -> Tensor:
        rows = torch.randint(len(latents), (recipe.batch,), generator=generator)
        captions = [data.captions[i] for i in rows.tolist()]
        return backbone.training_loss(latents[rows], captions, generator, recipe.draws)

    paint_with(lambda trained: preview(backbone, data.captions))
    return minimize(loss, parameters, recipe, seed=recipe.seed + seed, label="pretrain")


@torch.no_grad()
def embed_all(backbone: Family, images: Tensor, batch: int = 64) -> Tensor:
    """Latents (N, ...) of pictures (N, 3, H, W) or clips (N, F, 3, H, W), `batch` at a time."""
    return torch.cat([backbone.embed(images[i : i + batch]) for i in range(0, len(images), batch)])
