"""The UNet family equals the unmodified pipeline, and no picture depends on the batch it was made in."""

import pytest
import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionPipeline

from stages.backbones.core.base import Settings
from stages.backbones.loading.checkpoints import load_pipeline
from stages.backbones.unet import UNet


@pytest.fixture
def saved(backbone, tmp_path):
    backbone.save(tmp_path)
    return tmp_path


@pytest.mark.parametrize("guidance", [1.0, 4.0])
@pytest.mark.parametrize("variant", ["eps", "v", "euler"])
def test_sample_equals_the_pipelines_own_call(backbone, saved, guidance, variant):
    pipe = StableDiffusionPipeline.from_pretrained(saved, safety_checker=None, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    if variant == "v":
        pipe.scheduler.register_to_config(prediction_type="v_prediction")
    if variant == "euler":
        pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config)
    ours = UNet("tiny", Settings(path=str(saved), family="unet"), pipe)
    prompts, seeds = ["a red circle", "a blue square"], [3, 4]
    latents = ours.noise(seeds)
    theirs = pipe(prompts, latents=latents, num_inference_steps=5, guidance_scale=guidance, output_type="pt").images
    images = ours.sample(ours.encode(prompts), seeds=seeds, steps=5, guidance=guidance)
    assert (images - theirs).abs().max() < 1e-4
    assert images.std() > 0.01


def test_a_picture_does_not_depend_on_its_batch(backbone):
    prompts, seeds = ["a red circle", "a blue square", "a shape"], [5, 6, 7]
    together = backbone.sample(backbone.encode(prompts), seeds=seeds, steps=4, guidance=3.0)
    for row, (prompt, seed) in enumerate(zip(prompts, seeds, strict=True)):
        alone = backbone.sample(backbone.encode([prompt]), seeds=[seed], steps=4, guidance=3.0)
        assert (alone[0] - together[row]).abs().max() < 1e-5


def test_the_same_seed_gives_the_same_bits(backbone):
    call = {"seeds": [9], "steps": 3, "guidance": 2.0}
    condition = backbone.encode(["a cross"])
    assert torch.equal(backbone.sample(condition, **call), backbone.sample(condition, **call))


def test_embed_inverts_the_scaling_of_decode(backbone):
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    factor = backbone.vae.config.scaling_factor
    assert torch.allclose(backbone.embed(images), backbone.vae.encode(images * 2 - 1).latents * factor)


def test_drawn_states_lie_on_gathered_trajectories(backbone):
    prompts = ["a red circle", "a shape"]
    states = list(backbone.states(backbone.encode(prompts), 6, seed=0))
    assert {state.step for state in states} <= set(range(4)) and len({state.step for state in states}) > 1
    for state in states:
        for row, prompt in enumerate(prompts):
            assert any(torch.equal(state.latent[row], run[state.step]) for run in backbone.trajectories.pools[prompt])
            assert any(torch.equal(state.final[row], run[-1]) for run in backbone.trajectories.pools[prompt])
    with pytest.raises(KeyError, match="gather them"):
        backbone.draw(backbone.encode(["a cross"]), torch.Generator())


def test_the_walk_passes_the_schedulers_times(backbone):
    condition = backbone.encode(["a red circle"])
    states = list(backbone.walk(condition, backbone.noise([0]), steps=4, guidance=1.0))
    assert [state.step for state in states] == [0, 1, 2, 3, 4]
    assert [int(state.time[0]) for state in states[:-1]] == [751, 501, 251, 1]


def test_missing_and_damaged_checkpoints_say_what_to_do(saved, tmp_path):
    settings = Settings(path=str(tmp_path / "nowhere"), family="unet", world="shapes")
    with pytest.raises(FileNotFoundError, match=r"model_index.json is missing; make it with: snakemake"):
        load_pipeline(StableDiffusionPipeline, settings, "cpu")
    weights = saved / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ValueError, match="cannot be loaded"):
        load_pipeline(StableDiffusionPipeline, Settings(path=str(saved), family="unet"), "cpu")
