"""Half precision: a network reads what fits it, and latents stay as exact as its own pipeline keeps them."""

import pytest
import torch
from torch import nn

from tests.backbones.families import FAMILIES, PROMPTS, SEEDS
from tests.backbones.test_memory import loaded


@pytest.fixture
def upcast(tmp_path):
    """SDXL in float16 with an autoencoder that overflows there and so works in float32."""
    FAMILIES["xl"].make(full_autoencoder=True).save(tmp_path)
    backbone = loaded("xl", tmp_path, dtype="float16")
    assert backbone.vae.dtype == torch.float32 and backbone.net.dtype == torch.float16
    return backbone


def test_a_network_in_float16_learns_from_pictures_of_an_upcast_autoencoder(upcast):
    pictures = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert upcast.embed(pictures).dtype == upcast.noise(SEEDS).dtype == torch.float16
    state, target = upcast.examples(pictures, torch.Generator().manual_seed(0))
    loss = upcast.distance(upcast.predict(state, upcast.encode(PROMPTS)), target)
    assert torch.isfinite(loss)
    assert torch.isfinite(upcast.decode(upcast.embed(pictures))).all()


@pytest.mark.parametrize("name", ["wan", "wan-euler"])
def test_wan_rounds_what_its_network_reads_and_not_its_latents(name, tmp_path):
    family, backbone = FAMILIES[name], loaded(name, tmp_path, dtype="bfloat16")
    assert backbone.net.dtype == torch.bfloat16 and backbone.noise(SEEDS).dtype == torch.float32
    pipe = family.cls.PIPELINE.from_pretrained(tmp_path, dtype=torch.bfloat16, vae=backbone.vae, **family.cls.WITHOUT)
    theirs = family.call(pipe, PROMPTS, backbone.noise(SEEDS), 3.0)
    ours = backbone.sample(backbone.encode(PROMPTS), seeds=SEEDS, steps=4, guidance=3.0)
    assert (ours - theirs).abs().max() < 1e-5 and ours.std() > 0.1
    nn.Module.to(backbone.net, torch.bfloat16)  # what diffusers keeps in float32, too
    assert backbone.embed(ours).dtype == backbone.noise(SEEDS).dtype == torch.float32


@pytest.mark.parametrize("name", ["sana", "sana-euler"])
def test_sana_rounds_what_its_network_reads_and_not_its_latents(name, tmp_path):
    family, backbone = FAMILIES[name], loaded(name, tmp_path, dtype="bfloat16")
    pipe = family.cls.PIPELINE.from_pretrained(tmp_path, dtype=torch.bfloat16, vae=backbone.vae, **family.cls.WITHOUT)
    assert backbone.noise(SEEDS).dtype == torch.float32
    theirs = family.call(pipe, PROMPTS, backbone.noise(SEEDS), 3.0)
    ours = backbone.sample(backbone.encode(PROMPTS), seeds=SEEDS, steps=4, guidance=3.0)
    assert torch.equal(ours, theirs) and ours.float().std() > 0.1
