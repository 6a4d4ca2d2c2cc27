"""Interventions: attach and detach, save and load, composition, and refusal of damaged files."""

import json
import pickle

import pytest
import torch

from stages.interventions import Identity, Stack, load, save
from stages.interventions.guidance import NegativePrompt
from stages.interventions.weights import Weights

CALL = {"seeds": [1, 2], "steps": 3, "guidance": 3.0}


@pytest.fixture
def condition(backbone):
    return backbone.encode(["a red circle", "a blue square"])


@pytest.fixture
def weights(backbone):
    made = Weights.copy(backbone, backbone.weights("cross_attn"))
    generator = torch.Generator().manual_seed(0)
    for value in made.parameters():
        value.data += 0.3 * torch.randn(value.shape, generator=generator)
    return made


def made_of(backbone, weights):
    return {
        "identity": Identity(),
        "weights": weights,
        "negative": NegativePrompt("a red shape"),
        "stack": Stack(weights, NegativePrompt("a red shape", 0.5)),
    }


@pytest.mark.parametrize("kind", ["weights", "negative", "stack"])
def test_it_changes_samples_detaches_bitwise_and_survives_its_file(backbone, condition, weights, tmp_path, kind):
    intervention = made_of(backbone, weights)[kind]
    plain = backbone.sample(condition, **CALL)
    with intervention.attach(backbone):
        edited = backbone.sample(condition, **CALL)
    assert not torch.allclose(edited, plain, atol=1e-4)
    assert torch.equal(backbone.sample(condition, **CALL), plain)
    save(intervention, tmp_path / "a")
    save(intervention, tmp_path / "b")
    for file in ("intervention.safetensors", "intervention.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    with load(tmp_path / "a").attach(backbone):
        assert torch.equal(backbone.sample(condition, **CALL), edited)


def test_what_has_no_strength_changes_nothing(backbone, condition):
    plain = backbone.sample(condition, **CALL)
    same = Weights.copy(backbone, [name for name, _ in backbone.net.named_parameters()])
    for nothing in (Identity(), same, NegativePrompt("a red shape", 0.0), Stack(Identity(), same)):
        with nothing.attach(backbone):
            assert torch.equal(backbone.sample(condition, **CALL), plain)


def test_negative_prompt_is_guidance_from_that_prompt(backbone, condition):
    with NegativePrompt("a red shape").attach(backbone):
        edited = backbone.sample(condition, **CALL)
    backbone.unconditional = lambda size: backbone.encode(["a red shape"]).repeat(size)
    assert torch.allclose(backbone.sample(condition, **CALL), edited, atol=1e-5)


def test_gradients_reach_attached_weights_only(backbone, condition, weights):
    state = next(backbone.states(condition, 1, seed=0))
    with weights.attach(backbone):
        backbone.predict(state, condition).square().mean().backward()
    assert all(value.grad is not None and value.grad.abs().sum() > 0 for value in weights.parameters())
    assert all(parameter.grad is None for parameter in backbone.net.parameters())


def test_damaged_files_are_refused_in_one_line(weights, tmp_path):
    with pytest.raises(FileNotFoundError, match="train the method first"):
        load(tmp_path / "nowhere")
    save(weights, tmp_path)
    file = tmp_path / "intervention.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        load(tmp_path)
    file.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        load(tmp_path)
    header = tmp_path / "intervention.json"
    header.write_text("not json")
    with pytest.raises(ValueError, match="not an intervention's header"):
        load(tmp_path)
    header.write_text(json.dumps({"class": "os.system", "spec": {}}))
    with pytest.raises(ValueError, match="no intervention class"):
        load(tmp_path)
