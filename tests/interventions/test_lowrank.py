"""LoRA through peft: the identity at B = 0, bitwise detachment, and samples equal to diffusers' and peft's own."""

import pytest
import torch
from diffusers import StableDiffusionPipeline
from peft import PeftModel

from stages.control.edits import edit_activations
from stages.interventions import Stack, load, save
from stages.interventions.lowrank import LowRank, linear_layers
from stages.interventions.weights import Weights

CALL = {"seeds": [1, 2], "steps": 3, "guidance": 3.0}


@pytest.fixture
def condition(backbone):
    return backbone.encode(["a red circle", "a blue square"])


def made(backbone, spread=0.3, seed=0, blocks=(0, 1, 2)):
    draws = torch.Generator().manual_seed(seed)
    return LowRank.create(backbone, linear_layers(backbone, blocks), 2, draws, scaling=0.7, spread=spread)


def test_a_fresh_one_is_the_identity_bitwise(backbone, condition):
    plain = backbone.sample(condition, **CALL)
    with made(backbone, spread=0.0).attach(backbone):
        assert torch.equal(backbone.sample(condition, **CALL), plain)


def test_it_detaches_to_the_same_objects(backbone, condition):
    plain = backbone.sample(condition, **CALL)
    before = {name: id(module) for name, module in backbone.net.named_modules()}
    lora = made(backbone)
    with lora.injected(backbone):
        assert torch.equal(backbone.sample(condition, **CALL), plain)
        with lora.attach(backbone):
            edited = backbone.sample(condition, **CALL)
        assert torch.equal(backbone.sample(condition, **CALL), plain)
    assert not torch.allclose(edited, plain, atol=1e-4)
    assert {name: id(module) for name, module in backbone.net.named_modules()} == before
    assert "peft_config" not in backbone.net.__dict__
    assert not any(parameter.requires_grad for parameter in backbone.net.parameters())
    with pytest.raises(RuntimeError, match="on purpose"), lora.attach(backbone):
        raise RuntimeError("on purpose")
    assert {name: id(module) for name, module in backbone.net.named_modules()} == before


def test_gradients_reach_every_factor_and_nothing_else(backbone, condition):
    lora = made(backbone)
    state = next(backbone.states(condition, 1, seed=0))
    with lora.attach(backbone):
        backbone.predict(state, condition).square().mean().backward()
    assert all(value.grad is not None and value.grad.abs().sum() > 0 for value in lora.parameters())
    assert all(parameter.grad is None for parameter in backbone.net.parameters())


def test_peft_draws_nothing_from_the_global_generator(backbone):
    torch.manual_seed(3)
    wanted = torch.rand(1)
    torch.manual_seed(3)
    with made(backbone).attach(backbone):
        assert torch.equal(torch.rand(1), wanted)


def test_diffusers_loads_the_saved_file(backbone, condition, tmp_path):
    lora = made(backbone).folded()
    save(lora, tmp_path / "lora")
    backbone.save(tmp_path / "sd")
    with load(tmp_path / "lora").attach(backbone):
        wanted = backbone.sample(condition, **CALL)
    pipe = StableDiffusionPipeline.from_pretrained(tmp_path / "sd", safety_checker=None, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    pipe.load_lora_weights(tmp_path / "lora", weight_name="intervention.safetensors")
    found = pipe(
        list(condition.prompts),
        latents=backbone.noise(CALL["seeds"]),
        num_inference_steps=CALL["steps"],
        guidance_scale=CALL["guidance"],
        output_type="pt",
    ).images
    assert not torch.allclose(backbone.sample(condition, **CALL), wanted, atol=1e-3)
    assert (found - wanted).abs().max() < 1e-4


def test_peft_loads_the_exported_folder(backbone, condition, tmp_path):
    lora = made(backbone)
    state = next(backbone.states(condition, 1, seed=0))
    with lora.attach(backbone):
        wanted = backbone.predict(state, condition)
    lora.export(tmp_path)
    wrapped = PeftModel.from_pretrained(backbone.net, tmp_path)
    found = wrapped(state.input, state.time, condition.tensors["embeds"], return_dict=False)[0]
    assert (found - wanted).abs().max() < 1e-5
    assert not torch.allclose(backbone.predict(state, condition), torch.zeros(()))


def test_two_of_them_add_up_in_either_order(backbone, condition):
    a, b = made(backbone), made(backbone, seed=1, blocks=(1, 2, 3))
    state = next(backbone.states(condition, 1, seed=0))
    plain = backbone.predict(state, condition)
    with Stack(a, b).attach(backbone):
        both = backbone.predict(state, condition)
    with Stack(b, a).attach(backbone):
        assert torch.allclose(backbone.predict(state, condition), both, atol=1e-5)
    with a.attach(backbone):
        assert not torch.allclose(backbone.predict(state, condition), both, atol=1e-4)
    assert torch.equal(backbone.predict(state, condition), plain)


def test_it_works_with_edits_and_weights_attached_before_or_after(backbone, condition):
    lora, site = made(backbone), backbone.select("attn", part="heads")[1]
    weights = Weights.copy(backbone, backbone.weights("cross_attn"))
    for value in weights.parameters():
        value.data *= 1.5
    state = next(backbone.states(condition, 1, seed=0))
    plain = backbone.predict(state, condition)

    def double(h, at):
        return 2 * h

    with lora.attach(backbone), edit_activations(backbone, {site: double}), weights.attach(backbone):
        after = backbone.predict(state, condition)
    with weights.attach(backbone), edit_activations(backbone, {site: double}), lora.attach(backbone):
        before = backbone.predict(state, condition)
    assert torch.allclose(after, before, atol=1e-6) and not torch.allclose(after, plain, atol=1e-3)
    assert torch.equal(backbone.predict(state, condition), plain)


def test_a_block_that_is_not_there_is_named(backbone):
    with pytest.raises(ValueError, match="no block 99; it has 0 to 6"):
        linear_layers(backbone, [1, 99])
