"""A tiny Stable Diffusion with random weights, whose every layer matters."""

import torch
from diffusers import AutoencoderTiny

from stages.backbones.core.base import Settings
from stages.backbones.unet import UNet
from stages.worlds.words import make_tokenizer

BUILD = {
    "unet": {
        "sample_size": 4,
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": [8, 16],
        "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
        "layers_per_block": 1,
        "cross_attention_dim": 16,
        "attention_head_dim": 2,
        "norm_num_groups": 4,
    },
    "text_encoder": {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "projection_dim": 16,
    },
    "scheduler": {"beta_schedule": "scaled_linear", "clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1},
}


def unet() -> UNet:
    """A new one each time."""
    settings = Settings(path="none", family="unet", steps=4, guidance=3.0, batch=4, pool=2, build=BUILD)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        sizes = {"encoder_block_out_channels": (8, 8), "decoder_block_out_channels": (8, 8)}
        vae = AutoencoderTiny(**sizes, num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1), latent_channels=4)
        made = UNet.create("tiny", settings, make_tokenizer(), vae, seed=0)
        for parameter in made.net.parameters():
            parameter.data += 0.05 * torch.randn_like(parameter)
    return made
