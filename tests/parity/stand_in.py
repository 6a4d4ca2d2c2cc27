"""Backbones around given networks and given embeddings, for fixtures that come without a tokenizer."""

from types import SimpleNamespace

import torch
from diffusers import AutoencoderTiny, DDIMScheduler, UNet2DConditionModel

from stages.backbones.core.base import Condition, Settings
from stages.backbones.core.diffusion import Diffusion
from stages.backbones.unet import UNet


class StandIn(Diffusion):
    """`prompts` maps what is asked for to its encoded tensors; `call` is the network."""

    def __init__(self, net, scheduler, prompts, shape, decoder=None, **settings):
        super().__init__("stand-in", Settings(path="none", family="none", **settings), net)
        self.scheduler, self.prompts, self.shape, self.decoder = scheduler, prompts, shape, decoder

    def _find_sites(self):
        return {}

    def modules(self):
        return {"net": self.net}

    def _encode(self, prompts):
        rows = [self.prompts[prompt] for prompt in prompts]
        return {name: torch.cat([row[name] for row in rows]) for name in rows[0]}

    def denoise(self, latent, time, tensors):
        return self.net(latent, time, tensors)

    def decode(self, latent):
        return self.decoder(latent)

    def embed(self, images):
        return images

    def picture_size(self):
        return tuple(self.shape[-2:])

    def latent_shape(self):
        return self.shape

    def _times(self, scheduler, steps):
        scheduler.set_timesteps(steps)
        return scheduler.timesteps


def tiny_unet(config, weights, scheduler=None):
    """A UNet with given weights and no text encoder."""
    net = UNet2DConditionModel(**{key: value for key, value in config.items() if value is not None})
    net.load_state_dict(weights)
    return bare(net, scheduler)


def meta_unet(config):
    """A UNet of that structure without memory for its weights."""
    with torch.device("meta"):
        return bare(UNet2DConditionModel(**config))


def bare(net, scheduler=None, steps=10):
    """A backbone around a network alone: conditions are made with `given`."""
    with torch.device("cpu"):
        vae = small_vae()
    parts = {"unet": net, "vae": vae, "scheduler": scheduler or DDIMScheduler(), "text_encoder": None}
    device = str(next(net.parameters()).device)
    settings = Settings(path="none", family="unet", steps=steps, guidance=3.0, batch=4, pool=2)
    return UNet("tiny", settings, SimpleNamespace(**parts, tokenizer=None), device)


def small_vae():
    """An autoencoder that no number depends on."""
    sizes = {"encoder_block_out_channels": (8, 8), "decoder_block_out_channels": (8, 8)}
    return AutoencoderTiny(**sizes, num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1), latent_channels=4)


def given(embeds, **more):
    """A condition of given embeddings (B, L, D)."""
    return Condition(("",) * len(embeds), {"embeds": embeds, **more})
