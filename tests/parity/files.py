"""Reading fixture folders: manifests, tensors, and a tiny UNet with given weights and no text encoder."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from diffusers import AutoencoderTiny, DDIMScheduler, UNet2DConditionModel
from safetensors.torch import load_file

from stages.backbones.core.base import Condition, Settings
from stages.backbones.unet import UNet

FIXTURES = Path(os.environ.get("PALIMPSEST_FIXTURES", "../shared/fixtures"))


def folder(name):
    """The folder of that name; the whole test module is skipped when it is absent."""
    path = FIXTURES / name
    if not (path / "manifest.json").is_file():
        pytest.skip(f"no fixtures at {path}", allow_module_level=True)
    return path


def manifest(path):
    return json.loads((path / "manifest.json").read_text())


def tensors(path, prefix=""):
    """All tensors of a file whose names begin with the prefix, without it."""
    return {name.removeprefix(prefix): t for name, t in load_file(path).items() if name.startswith(prefix)}


def meta_unet(config):
    """A UNet of that structure without memory for its weights."""
    with torch.device("meta"):
        return bare(UNet2DConditionModel(**config))


def tiny_unet(config, weights, scheduler=None):
    net = UNet2DConditionModel(**{key: value for key, value in config.items() if value is not None})
    net.load_state_dict(weights)
    return bare(net, scheduler)


def bare(net, scheduler=None, steps=10):
    """A backbone around a network alone: conditions are made with `given`."""
    with torch.device("cpu"):
        sizes = {"encoder_block_out_channels": (8, 8), "decoder_block_out_channels": (8, 8)}
        vae = AutoencoderTiny(**sizes, num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1), latent_channels=4)
    parts = {"unet": net, "vae": vae, "scheduler": scheduler or DDIMScheduler(), "text_encoder": None}
    device = str(next(net.parameters()).device)
    settings = Settings(path="none", family="unet", steps=steps, guidance=3.0, batch=4, pool=2)
    return UNet("tiny", settings, SimpleNamespace(**parts, tokenizer=None), device)


def given(embeds, **more):
    """A condition of given embeddings (B, L, D)."""
    return Condition(("",) * len(embeds), {"embeds": embeds, **more})


def close(actual, expected, tolerance=1e-5):
    """Equal within the tolerance times the largest entry."""
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance * float(expected.abs().max()) + 1e-12)


def close_gradients(actual, expected, tolerance=1e-4):
    """Gradients by name, each compared at the size of its largest entry."""
    assert set(actual) == set(expected)
    for name, value in expected.items():
        limit = tolerance * float(value.abs().max()) + 1e-9
        assert (actual[name] - value).abs().max() <= limit, name
