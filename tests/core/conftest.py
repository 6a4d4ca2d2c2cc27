"""A tiny Stable Diffusion with random weights, whose every layer matters."""

from pathlib import Path

import pytest
import torch
import yaml
from diffusers import AutoencoderTiny

from stages.backbones.core.base import Settings
from stages.backbones.unet import UNet
from stages.params.concept import Concept
from stages.worlds.words import make_tokenizer

ROOT = Path(__file__).parents[2]
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


@pytest.fixture
def backbone() -> UNet:
    settings = Settings(path="none", family="unet", steps=4, guidance=3.0, batch=4, pool=2, build=BUILD)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        sizes = {"encoder_block_out_channels": (8, 8), "decoder_block_out_channels": (8, 8)}
        vae = AutoencoderTiny(**sizes, num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1), latent_channels=4)
        made = UNet.create("tiny", settings, make_tokenizer(), vae, seed=0)
        for parameter in made.net.parameters():
            parameter.data += 0.05 * torch.randn_like(parameter)
    return made


@pytest.fixture
def concept() -> Concept:
    return Concept("red", ("a red shape", "a red circle"), ("a shape", "a circle"), ("a blue circle",))


@pytest.fixture
def project(backbone, tmp_path, monkeypatch):
    """A project folder with a tiny backbone, a concept and a method."""
    monkeypatch.chdir(tmp_path)
    backbone.save(Path("artifacts/backbones/tiny"))
    settings = {"path": "artifacts/backbones/tiny", "family": "unet", "steps": 3, "pool": 2, "batch": 4, "build": BUILD}
    red = {"prompts": ["a red shape"], "neutral": ["a shape"], "retain": ["a blue circle"], "target": {"colour": "red"}}
    contents = {
        "backbones/tiny": {"class": "stages.backbones.unet.UNet"} | settings,
        "concepts/red": {"dataset": str(ROOT / "data/shapes_colors.csv")} | red,
        "methods/esd": {"class": "stages.methods.esd.ESD", "steps": 2, "batch": 2, "lr": 0.01},
    }
    for name, content in contents.items():
        path = Path(f"params/{name}.yaml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(content))
    return tmp_path
