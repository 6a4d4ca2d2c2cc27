"""Safe latent diffusion's arithmetic, momentum, warm-up and whole runs against diffusers' own pipeline."""

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, PNDMScheduler, UNet2DConditionModel
from torch import nn

from stages.interventions.sld import Safety, SafetyGuidance, safety_guidance
from tests.parity.fixtures import Fixtures, below
from tests.parity.stand_in import StandIn

FIXTURES = Fixtures("methods/sld")
CLOSE = {"rtol": 1e-5, "atol": 1e-5}
SUMMARY = FIXTURES.manifest["summary"]
RUNS = SUMMARY["e2e"]
STRENGTHS = [name for name in SUMMARY if name != "e2e"]
SCHEDULERS = {"ddim": DDIMScheduler, "pndm": PNDMScheduler}


def safety(name):
    numbers = SUMMARY[name]["cfg"]
    return Safety(
        numbers["sld_warmup_steps"],
        numbers["sld_guidance_scale"],
        numbers["sld_threshold"],
        numbers["sld_momentum_scale"],
        numbers["sld_mom_beta"],
    )


def scheduler(name):
    config = FIXTURES.manifest["scheduler"]
    if name == "pndm":
        config = {k: v for k, v in config.items() if k != "clip_sample"} | {"skip_prk_steps": True}
    return SCHEDULERS[name](**config)


class Scripted(nn.Module):
    """Returns the next stored prediction, whatever it is asked; rows of the fixture are uncond, text, safety."""

    def __init__(self, predictions):
        super().__init__()
        self.predictions, self.calls = predictions, 0
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, latent, time, tensors):
        self.calls += 1
        return self.predictions[self.calls - 1]


@pytest.mark.parametrize("name", STRENGTHS)
def test_scripted_guidance(name):
    data, steps = FIXTURES.tensors("scripted.safetensors"), FIXTURES.manifest["steps"]
    empty = {"embeds": torch.zeros(1, 1, 1)}
    shape = data["scripted.latents0"].shape[1:]
    net = Scripted(data["scripted.noise_pred"])
    backbone = StandIn(net, scheduler("ddim"), dict.fromkeys(("", "text", "safety"), empty), shape)
    guided, combine = [], backbone.attached.combine
    backbone.attached.combine = lambda *args: guided.append(combine(*args)) or guided[-1]
    batch = FIXTURES.manifest["batch"]
    with torch.no_grad(), SafetyGuidance("safety", safety(name)).attach(backbone):
        condition = backbone.encode(["text"]).repeat(batch)
        settings = {"steps": steps, "guidance": FIXTURES.manifest["guidance_scale"]}
        *states, last = backbone.walk(condition, data["scripted.latents0"], **settings)
    assert [int(state.time[0]) for state in states] == data["scripted.timesteps"].tolist()
    torch.testing.assert_close(torch.stack(guided), data[f"scripted.{name}.guided"], **CLOSE)
    torch.testing.assert_close(last.latent, data[f"scripted.{name}.latents_last"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", STRENGTHS)
def test_momentum(name):
    data, numbers = FIXTURES.tensors("scripted.safetensors"), safety(name)
    momentum = torch.zeros_like(data["scripted.latents0"])
    for predictions, wanted in zip(data["scripted.noise_pred"], data[f"scripted.{name}.momentum"], strict=True):
        uncond, cond, concept = predictions.chunk(3)
        safe = safety_guidance(uncond, cond, concept, momentum, numbers)
        momentum = numbers.momentum_beta * momentum + (1 - numbers.momentum_beta) * safe
        torch.testing.assert_close(momentum, wanted, **CLOSE)


class Denoiser(nn.Module):
    def __init__(self, unet):
        super().__init__()
        self.unet = unet

    def forward(self, latent, time, tensors):
        return self.unet(latent, time, tensors["embeds"], return_dict=False)[0]


@pytest.fixture(scope="module")
def parts():
    """The network and the decoder with the fixture's weights."""
    weights = FIXTURES.tensors("model.safetensors")
    unet = UNet2DConditionModel(**FIXTURES.manifest["unet_config"])
    unet.load_state_dict(below(weights, "unet."))
    vae = AutoencoderKL(**FIXTURES.manifest["vae_config"])
    missing = vae.load_state_dict(below(weights, "vae."), strict=False).missing_keys
    assert all(name.startswith(("encoder", "quant_conv")) for name in missing)
    return Denoiser(unet).eval(), vae.eval()


@pytest.mark.parametrize("name", RUNS)
def test_whole_runs(name, parts):
    data, run, (net, vae) = FIXTURES.tensors("e2e.safetensors"), RUNS[name], parts
    words = {"": "uncond", "text": "text", "safety": "safety"}
    prompts = {prompt: {"embeds": data[f"emb.{key}"]} for prompt, key in words.items()}
    start = data["init_latents"]

    def decoder(latent):
        return (vae.decode(latent / vae.config.scaling_factor).sample / 2 + 0.5).clamp(0, 1)

    backbone = StandIn(net, scheduler(run["scheduler"]), prompts, start.shape[1:], decoder)
    numbers = Safety(scale=0) if name == "OFF" else safety(name)
    with torch.no_grad(), SafetyGuidance("safety", numbers).attach(backbone):
        settings = {"steps": run["steps"], "guidance": run["guidance_scale"]}
        states = list(backbone.walk(backbone.encode(["text"]), start, **settings))
        image = backbone.decode(states[-1].latent)
    wanted = data[f"e2e.{name}.latents"]
    assert [int(s.time[0]) for s in states[:-1]] == data[f"e2e.{name}.timesteps"].tolist()
    latents = torch.stack([state.latent for state in states[1:]])[-len(wanted) :]
    size = float(wanted.abs().max())  # guidance multiplies differences by 5000
    torch.testing.assert_close(latents, wanted, rtol=1e-4, atol=1e-5 * size)
    torch.testing.assert_close(image.movedim(1, -1), data[f"e2e.{name}.image"], rtol=1e-4, atol=1e-4)
