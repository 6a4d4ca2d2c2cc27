"""The small autoencoder that the backbones of the world of shapes share: 32 x 32 pictures to 8 x 8 x 4 latents."""

import torch
from diffusers import AutoencoderTiny
from torch import Tensor

from stages.training.minimize import minimize
from stages.training.progress import History
from stages.training.settings import from_scratch
from stages.worlds.shapes import Shapes

SPREAD = 0.01  # weight of the pull of each latent channel to mean 0 and variance 1


def make_autoencoder(seed: int, width: int = 32, channels: int = 4) -> AutoencoderTiny:
    """Returns an untrained one: two halvings of the side."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
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
    """Returns an autoencoder in evaluation mode, its scaling factor set for latents of unit variance, and its curve.

    `noise` on the latents (a share of their unit spread) makes the decoder forgive what a small generator gets wrong.
    """
    model = make_autoencoder(seed).to(memory_format=torch.channels_last)

    def loss(step: int, generator: torch.Generator) -> Tensor:
        images = 2 * world.draw(batch, generator).images - 1
        latents = model.encode(images.to(memory_format=torch.channels_last)).latents
        spread = latents.mean((0, 2, 3)).square().mean() + (latents.var((0, 2, 3)) - 1).square().mean()
        noisy = latents + noise * torch.randn(latents.shape, generator=generator)
        error = model.decode(noisy).sample - images
        return error.square().mean() + 0.1 * error.abs().mean() + SPREAD * spread

    history = minimize(loss, model.parameters(), from_scratch(steps, lr), seed=seed, label="autoencoder")
    model = model.to(memory_format=torch.contiguous_format).eval().requires_grad_(False)
    latents = encode(model, world.sample(512, seed).images)
    model.register_to_config(scaling_factor=round(float(model.config.scaling_factor / latents.std()), 4))
    return model, history


@torch.no_grad()
def encode(model: AutoencoderTiny, images: Tensor) -> Tensor:
    """Returns scaled latents (N, 4, H/4, W/4) of pictures in [0, 1], as a diffusion model sees them."""
    parts = [model.encode(2 * part - 1).latents for part in images.split(128)]
    return torch.cat(parts) * model.config.scaling_factor


@torch.no_grad()
def decode(model: AutoencoderTiny, latents: Tensor) -> Tensor:
    """Returns pictures in [0, 1] of scaled latents."""
    parts = [model.decode(part / model.config.scaling_factor).sample for part in latents.split(128)]
    return (torch.cat(parts) / 2 + 0.5).clamp(0, 1)
