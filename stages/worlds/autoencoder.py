"""The autoencoder of the small diffusion backbones of shapes: pictures (3, 32, 32) to latents (4, 8, 8)."""

import torch
from diffusers import AutoencoderTiny
from torch import Tensor

from stages.seeds import Purpose, seed_of
from stages.training.minimize import minimize
from stages.training.progress import History
from stages.training.settings import from_scratch
from stages.worlds.shapes import Shapes

SPREAD = 0.01  # weight of the pull of each latent channel to mean 0 and variance 1


def make_autoencoder(seed: int, width: int = 32, channels: int = 4) -> AutoencoderTiny:
    """Returns an untrained autoencoder that halves height and width twice."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(Purpose.WEIGHTS, seed))
        return AutoencoderTiny(
            encoder_block_out_channels=(width,) * 3,
            decoder_block_out_channels=(width,) * 3,
            num_encoder_blocks=(0, 1, 1),
            num_decoder_blocks=(1, 1, 0),
            latent_channels=channels,
        )


def train_autoencoder(
    world: Shapes, *, seed: int, steps: int = 2000, batch: int = 8, lr: float = 2e-3, noise: float = 0.1
) -> tuple[AutoencoderTiny, History]:
    """Returns an autoencoder in evaluation mode, scaled so that latents have variance 1, and its losses.

    `noise` is the standard deviation of the noise on the latents, which makes the decoder tolerate the errors of small
    generators.
    """
    model = make_autoencoder(seed).to(memory_format=torch.channels_last)

    def loss(step: int, generator: torch.Generator) -> Tensor:
        return reconstruction_loss(model, world.draw(batch, generator).images, noise, generator)

    history = minimize(loss, model.parameters(), from_scratch(steps, lr), seed=seed, label="autoencoder")
    return finished(model, world.sample(512, seed).images), history


def reconstruction_loss(model: AutoencoderTiny, images: Tensor, noise: float, generator: torch.Generator) -> Tensor:
    """The squared error of pictures (N, 3, H, W) in [0, 1] through noisy latents, a tenth of the absolute one, and the
    pull of each latent channel to mean 0 and variance 1. Pictures are best channels-last.
    """
    images = 2 * images.contiguous(memory_format=torch.channels_last) - 1
    latents = model.encode(images).latents
    spread = latents.mean((0, 2, 3)).square().mean() + (latents.var((0, 2, 3)) - 1).square().mean()
    noisy = latents + noise * torch.randn(latents.shape, generator=generator)
    error = model.decode(noisy).sample - images
    return error.square().mean() + 0.1 * error.abs().mean() + SPREAD * spread


def finished(model: AutoencoderTiny, images: Tensor) -> AutoencoderTiny:
    """A trained model in evaluation mode, scaled so that latents of `images` (N, 3, H, W) have variance 1."""
    model = model.to(memory_format=torch.contiguous_format).eval().requires_grad_(False)
    scale = model.config.scaling_factor / encode(model, images).std()
    model.register_to_config(scaling_factor=round(float(scale), 4))
    return model


@torch.no_grad()
def encode(model: AutoencoderTiny, images: Tensor) -> Tensor:
    """Returns scaled latents (N, C, h, w) as diffusion models see them, of pictures (N, 3, H, W) in [0, 1]."""
    parts = [model.encode(2 * part - 1).latents for part in images.split(128)]
    return torch.cat(parts) * model.config.scaling_factor


@torch.no_grad()
def decode(model: AutoencoderTiny, latents: Tensor) -> Tensor:
    """Returns pictures (N, 3, H, W) in [0, 1] of scaled latents (N, C, h, w)."""
    parts = [model.decode(part / model.config.scaling_factor).sample for part in latents.split(128)]
    return (torch.cat(parts) / 2 + 0.5).clamp(0, 1)
