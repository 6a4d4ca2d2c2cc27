"""EAP against its released code's numbers: Gumbel-softmax, mixtures, both losses, the alternation, what it trains."""

import pytest
import torch
from diffusers import DDIMScheduler

from stages.backbones.core.base import State
from stages.interventions.weights import Weights
from stages.methods.eap import EAP, Mixture
from stages.methods.shared.base import frozen
from stages.methods.shared.trained_weights import choose
from stages.objectives import clean_from_noise, gumbel_softmax, negative_guidance
from tests.parity.fixtures import Fixtures, below, close, close_after_adam, close_gradients
from tests.parity.stand_in import given, meta_unet, tiny_unet

FIXTURES = Fixtures("methods/eap")
MANIFEST = FIXTURES.manifest
SETTINGS = MANIFEST["settings"]
STEPS = FIXTURES.tensors("steps.safetensors")
LINEAGE = FIXTURES.json("param_names_compvis_lineage.json")
STRUCTURE = {  # of Stable Diffusion 1
    "sample_size": 64,
    "block_out_channels": (320, 640, 1280, 1280),
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}


def test_selections_on_the_structure_of_stable_diffusion():
    real = meta_unet(STRUCTURE)
    for name, expected in LINEAGE["names"].items():
        chosen = choose(real, name)
        assert set(chosen) == set(expected), name
        sizes = [real.net.get_parameter(n).numel() for n in chosen]
        assert [len(sizes), sum(sizes)] == list(LINEAGE["counts"][name]), name


@pytest.mark.parametrize("name", sorted({name.split(".")[0] for name in STEPS if name.startswith("gumbel")}))
def test_gumbel_softmax(name):
    case = below(STEPS, f"{name}.")
    logits = case["logits"].requires_grad_()
    ours = gumbel_softmax(logits, case["u"], float(case["temp"]), hard=bool(case["hard"]))
    close(ours.detach(), case["y"])
    ours.backward(case["cotangent"])
    close(logits.grad, case["grad"])


def clean_distance(stored, student, target, latent):
    alpha_bar = stored["alpha_bar"]
    return torch.nn.functional.mse_loss(
        clean_from_noise(latent, student, alpha_bar), clean_from_noise(latent, target, alpha_bar)
    )


def test_the_alternation():
    backbone = tiny_unet(MANIFEST["unet_config"], FIXTURES.tensors("model.safetensors", "frozen."), DDIMScheduler())
    start = FIXTURES.tensors("model.safetensors", "student.")
    weights = Weights({name: torch.nn.Parameter(value) for name, value in start.items()})
    assert set(start) == set(choose(backbone, "xattn"))
    adam = torch.optim.Adam(weights.parameters(), lr=SETTINGS["lr"])
    mixtures = {}
    for word, candidates in below(STEPS, "candidates.").items():
        hard, lr = bool(SETTINGS["hard"]), SETTINGS["gumbel_lr"]
        mixtures[word] = Mixture(given(candidates), SETTINGS["temp"], hard, lr)
        close(mixtures[word].logits.detach(), STEPS[f"logits_init.{word}"])
    empty = given(STEPS["emb.uncond"])
    for step in MANIFEST["steps"]:
        stored, word = below(STEPS, f"step{step['step']}."), step["word"]
        mixture, concept = mixtures[word], given(STEPS[f"emb.{word}"])
        mixed = mixture.mix(stored["gumbel_u"])
        close(mixed.tensors["embeds"].detach(), stored["emb_mixture"])
        state, other = (State(stored[name], stored["t"], 0) for name in ("z", "z_mixture"))
        uncond, cond = frozen(backbone, state, empty), frozen(backbone, state, concept)
        target = frozen(backbone, other, mixed)
        close(uncond, stored["eps_frozen_uncond"])
        close(cond, stored["eps_frozen_concept"])
        close(target, stored["eps_frozen_mixture"])
        with weights.attach(backbone):
            student, kept = backbone.predict(state, concept), backbone.predict(other, mixed)
        close(student.detach(), stored["eps_trained_concept"])
        close(kept.detach(), stored["eps_trained_mixture"])
        away = negative_guidance(uncond, cond, SETTINGS["negative_guidance"])
        erase, harm = (
            clean_distance(stored, student, away, state.latent),
            clean_distance(stored, kept, target, other.latent),
        )
        close(erase.detach(), stored["loss_erase_term"])
        close(harm.detach(), stored["loss_preserve_term"], 1e-4)
        # the code takes the noise level of the sampler's step, and the network's time inside the step's span
        backbone.scheduler.alphas_cumprod = stored["alpha_bar"].expand(1000)
        method = EAP(space="clean", scale=SETTINGS["negative_guidance"])
        close(method.erasure(backbone, weights, state, concept, empty).detach(), stored["loss_erase_term"])
        close(method.harm(backbone, weights, other, mixed).detach(), stored["loss_preserve_term"], 1e-4)
        if step["kind"] == "erase":
            close((erase + harm).detach(), stored["loss"])
            (erase + harm).backward()
            gradients = below(stored, "grad.")
            close_gradients({name: value.grad for name, value in weights.items()}, gradients)
            adam.step()
            for name, value in weights.items():
                close_after_adam(value.detach(), stored[f"after.{name}"], gradients[name], SETTINGS["lr"])
            adam.zero_grad()
        else:
            close(-harm.detach(), stored["loss"], 1e-4)
            mixture.step(harm)
            close(mixture.logits.grad, stored[f"logit_grad.{word}"], 1e-3)
        for name, value in below(STEPS, f"step{step['step']}.logits_after.").items():
            close(mixtures[name].logits.detach(), value, 1e-4)
