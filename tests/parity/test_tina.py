"""TINA in float64: every inner step of the recorded courses, the inverted noise, and the regeneration."""

import math

import pytest
import torch
from diffusers import DDIMScheduler

from stages.attacks.tina import TINA
from stages.control.state import Condition
from stages.interventions.starts import Path
from tests.parity.fixtures import Fixtures
from tests.parity.stand_in import tiny_unet
from tests.parity.words import near

FIXTURES = Fixtures("methods/tina")
MANIFEST = FIXTURES.manifest
WITHIN = MANIFEST["tolerances"]["float64"]
COURSES = list(enumerate(MANIFEST["courses"]))


def noise_levels(settings):
    """The running product in float64, where diffusers keeps float32."""
    assert settings["beta_schedule"] == "scaled_linear"
    ends = (math.sqrt(settings[name]) for name in ("beta_start", "beta_end"))
    betas = torch.linspace(*ends, settings["num_train_timesteps"], dtype=torch.float64).square()
    return (1 - betas).cumprod(0)


def course_of(number, course):
    """What is stored, the attack, its path, and the null text."""
    scheduler = DDIMScheduler(**MANIFEST["scheduler"], clip_sample=False)
    scheduler.alphas_cumprod = noise_levels(MANIFEST["scheduler"])
    if not MANIFEST["scheduler"]["set_alpha_to_one"]:
        scheduler.final_alpha_cumprod = scheduler.alphas_cumprod[0]
    backbone = tiny_unet(MANIFEST["unet_config"], FIXTURES.tensors("unet_erased.safetensors", "w."), scheduler)
    backbone.net.double()
    attack = TINA(
        steps=course["steps"],
        iterations=course["iterations"],
        lr=course["lr"],
        weight_decay=course["weight_decay"],
        start=course["start"],
    )
    stored = FIXTURES.tensors(f"course{number}.safetensors")
    return stored, attack, Path(backbone, course["steps"]), Condition(("",), {"embeds": stored["null_text"]})


@pytest.mark.parametrize(("number", "course"), COURSES)
def test_every_inner_step(number, course):
    stored, attack, path, null = course_of(number, course)
    assert path.times.tolist() == course["timesteps"]
    before = stored["z0"]
    for i in range(1, course["steps"] + 1):
        assert int(stored[f"s{i}.t"]) == int(path.times[i - 1])
        with torch.no_grad():
            latent = attack.guess(path, i - 1, before, null)
        near(latent, stored[f"s{i}.start"], WITHIN["start_abs"])
        for k in range(course["iterations"]):
            at = latent.clone().requires_grad_()
            loss = attack.rest(path, i - 1, before, at, null)
            (gradient,) = torch.autograd.grad(loss, [at])
            assert loss.item() == pytest.approx(float(stored[f"s{i}.k{k}.loss"]), rel=WITHIN["loss_rel"])
            near(gradient, stored[f"s{i}.k{k}.grad"], WITHIN["grad_abs"])
            latent = stored[f"s{i}.k{k}.z"]
        near(attack.refined(path, i - 1, before, null), latent, WITHIN["z_abs"])
        before = latent


@pytest.mark.parametrize(("number", "course"), COURSES)
def test_the_noise_and_what_is_regenerated_from_it(number, course):
    stored, attack, path, null = course_of(number, course)
    noise = attack.inverted(path, stored["z0"], null)
    near(noise, stored["zT"], WITHIN["z_abs"])
    with torch.no_grad():
        latents = list(path.down(stored["zT"], null))
    for i, latent in zip(range(course["steps"], 0, -1), latents, strict=True):
        near(latent, stored[f"regenerated.{i}"], WITHIN["regenerated_abs"])
    error = float((latents[-1] - stored["z0"]).square().mean())
    assert error == pytest.approx(course["error"]["refined"], rel=1e-6)


@pytest.mark.parametrize(("number", "course"), COURSES)
def test_ordinary_inversion_is_worse(number, course):
    stored, attack, path, null = course_of(number, course)
    latent = stored["z0"]
    with torch.no_grad():
        for i in range(len(path)):
            latent = attack.guess(path, i, latent, null)
        near(latent, stored["plain.zT"], WITHIN["start_abs"])
        *_, last = path.down(latent, null)
    near(last, stored["plain.regenerated"], WITHIN["regenerated_abs"])
    assert float((last - stored["z0"]).square().mean()) == pytest.approx(course["error"]["plain"], rel=1e-6)
    assert course["error"]["refined"] < course["error"]["plain"]
