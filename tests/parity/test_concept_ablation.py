"""Concept Ablation against the released trainer's numbers: selection, noising, losses, gradients, clipping, AdamW."""

import json

import pytest
import torch
from diffusers import DDPMScheduler

from stages.backbones.core.base import State
from stages.interventions.weights import Weights
from stages.methods.concept_ablation import ConceptAblation
from stages.methods.shared.base import frozen
from stages.methods.shared.trained_weights import choose
from stages.objectives import masked_error
from tests.parity.files import close, close_gradients, folder, given, manifest, meta_unet, tensors, tiny_unet

HERE = folder("methods/concept_ablation")
MANIFEST = manifest(HERE)
CHOSEN = json.loads((HERE / "param_names.json").read_text())
STRUCTURE = {  # of Stable Diffusion 1
    "sample_size": 64,
    "block_out_channels": (320, 640, 1280, 1280),
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}


def test_selections_on_the_structure_of_stable_diffusion():
    real = meta_unet(STRUCTURE)
    for name, expected in CHOSEN["sd14"].items():
        assert set(choose(real, name)) == set(expected), name
    for name, count in CHOSEN["sd14_counts"].items():
        sizes = [real.net.get_parameter(n).numel() for n in choose(real, name)]
        assert [len(sizes), sum(sizes)] == list(count), name


def released_loss(method, backbone, weights, case, stored):
    """The trainer's loss on a batch of concept prompts, followed by anchor prompts where it preserves a prior."""
    state = State(stored["noisy_latents"], stored["timesteps"], 0)
    half = len(state) // (2 if case["with_prior_preservation"] else 1)
    student = method.student(backbone, weights, state, given(stored["emb_target"]))
    close(student.detach(), stored["pred_trained"])
    target = stored["noise"][:half]
    if method.target == "model":
        first = State(state.latent[:half], state.time[:half], 0)
        with weights.attach(backbone):
            target = frozen(backbone, first, given(stored["emb_anchor"]))
        close(target, stored["pred_anchor"][:half])
    close(target, stored["target"][:half])
    loss = masked_error(student[:half], target, stored["mask"][:half], channels=False)
    if case["with_prior_preservation"]:
        loss = loss + case["prior_loss_weight"] * backbone.distance(student[half:], stored["noise"][half:])
    return loss


@pytest.mark.parametrize(
    "case", MANIFEST["cases"], ids=lambda c: f"{c['case']}-{c['parameter_group']}-{c['loss_type']}"
)
def test_one_step(case):
    scheduler = DDPMScheduler(**MANIFEST["scheduler"])
    backbone = tiny_unet(MANIFEST["unet_config"], tensors(HERE / "model.safetensors", "w."), scheduler)
    stored = tensors(HERE / "steps.safetensors", f"case{case['case']}.")
    close(backbone.process.noised(stored["latents"], stored["noise"], stored["timesteps"]), stored["noisy_latents"])
    weights = Weights.copy(backbone, choose(backbone, case["parameter_group"]))
    assert set(weights.names) == set(case["selected"])
    target = case["loss_type"].removesuffix("-based")
    settings = {"train": case["parameter_group"], "target": target, "lr": case["lr"], "clip": case["max_grad_norm"]}

    prefix = "grad_without_bos_detach."
    whole = {name.removeprefix(prefix): value for name, value in stored.items() if name.startswith(prefix)}
    if whole:
        released_loss(ConceptAblation(**settings), backbone, weights, case, stored).backward()
        close_gradients({name: value.grad for name, value in weights.items() if name in whole}, whole)
        weights.zero_grad()

    method = ConceptAblation(**settings, first_token=False)
    loss = released_loss(method, backbone, weights, case, stored)
    close(loss.detach(), stored["loss"])
    loss.backward()
    gradients = {name.removeprefix("grad."): value for name, value in stored.items() if name.startswith("grad.")}
    close_gradients({name: value.grad for name, value in weights.items() if name in gradients}, gradients)
    norm = torch.nn.utils.clip_grad_norm_(weights.parameters(), method.clip)
    close(norm, stored["grad_norm_before_clip"], 1e-4)
    torch.optim.AdamW(weights.parameters(), lr=method.lr, weight_decay=method.weight_decay).step()
    for name, value in weights.items():
        if f"after.{name}" in stored:
            sure = gradients[name].abs() > 1e-6
            after = stored[f"after.{name}"]
            torch.testing.assert_close(value.detach()[sure], after[sure], rtol=0, atol=2e-2 * method.lr)


def test_the_masked_loss_is_as_many_times_too_large_as_latents_have_channels():
    case = MANIFEST["cases"][0]
    stored = tensors(HERE / "steps.safetensors", f"case{case['case']}.")
    parts = stored["pred_trained"], stored["target"], stored["mask"]
    ratio = masked_error(*parts, channels=False) / masked_error(*parts)
    assert float(ratio) == pytest.approx(stored["latents"].shape[1], rel=1e-5)
