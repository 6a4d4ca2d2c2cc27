"""A trained LoRA gives the same pictures where others load it: Flux in diffusers, Infinity in peft."""

import pytest
import torch
from diffusers import FluxPipeline
from peft import PeftModel

from stages.interventions import load, save
from stages.interventions.lowrank import LowRank, linear_layers
from tests.backbones import tiny_infinity
from tests.backbones.families import FAMILIES, SEEDS

PROMPTS = ["a red circle", "a blue square"]


def made(backbone):
    draws = torch.Generator().manual_seed(0)
    return LowRank.create(backbone, linear_layers(backbone, [0, 1, 2]), 2, draws, scaling=0.7, spread=0.3)


@pytest.mark.parametrize("family", ["flux-dev", "flux-schnell"])
def test_diffusers_draws_the_same_with_the_saved_file(family, tmp_path):
    backbone = FAMILIES[family].make()
    save(made(backbone).folded(), tmp_path / "lora")
    backbone.save(tmp_path / "flux")
    condition, call = backbone.encode(PROMPTS), {"seeds": SEEDS, "steps": 4, "guidance": 2.0}
    plain = backbone.sample(condition, **call)
    with load(tmp_path / "lora").attach(backbone):
        wanted = backbone.sample(condition, **call)
    pipe = FluxPipeline.from_pretrained(tmp_path / "flux")
    pipe.load_lora_weights(tmp_path / "lora", weight_name="intervention.safetensors")
    found = FAMILIES[family].call(pipe, PROMPTS, backbone.noise(SEEDS), 2.0)
    assert (found - wanted).abs().max() < 1e-4
    assert not torch.allclose(plain, wanted, atol=1e-3)


def test_peft_draws_the_same_from_infinity_with_the_exported_folder(tmp_path):
    backbone, other = tiny_infinity.make(), tiny_infinity.make()
    lora = made(backbone)
    lora.export(tmp_path)
    condition, call = backbone.encode(PROMPTS), {"seeds": SEEDS, "steps": 4, "guidance": 2.0}
    plain = backbone.sample(condition, **call)
    with lora.attach(backbone):
        wanted = backbone.sample(condition, **call)
    other.net = PeftModel.from_pretrained(other.net, tmp_path).eval()
    torch.testing.assert_close(other.sample(condition, **call), wanted, rtol=0, atol=1e-5)
    assert not torch.allclose(plain, wanted, atol=1e-3)
