"""Concept Ablation against the released trainer's numbers: selection, noising, losses, gradients, clipping, AdamW."""

import pytest
import torch
from diffusers import DDPMScheduler

from stages.backbones.core.base import State
from stages.interventions.weights import Weights
from stages.methods.concept_ablation import ConceptAblation
from stages.methods.shared.base import frozen
from stages.methods.shared.trained_weights import choose
from stages.objectives import masked_error
from tests.parity.fixtures import Fixtures, below, close, close_after_adam, close_gradients
from tests.parity.stand_in import given, meta_unet, tiny_unet

FIXTURES = Fixtures("methods/concept_ablation")
MANIFEST = FIXTURES.manifest
CHOSEN = FIXTURES.json("param_names.json")
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


def edited(case, rows):
    """How many of a batch's rows are of concept prompts; anchor prompts follow where a prior is preserved."""
    return len(rows) // (2 if case["with_prior_preservation"] else 1)


def released_loss(method, backbone, weights, case, stored):
    """The trainer's loss on a batch of concept prompts, followed by anchor prompts where it preserves a prior."""
    state = State(stored["noisy_latents"], stored["timesteps"], 0)
    half = edited(case, state.latent)
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


every_case = pytest.mark.parametrize(
    "case", MANIFEST["cases"], ids=lambda c: f"{c['case']}-{c['parameter_group']}-{c['loss_type']}"
)


@every_case
def test_one_step(case):
    scheduler = DDPMScheduler(**MANIFEST["scheduler"])
    backbone = tiny_unet(MANIFEST["unet_config"], FIXTURES.tensors("model.safetensors", "w."), scheduler)
    stored = FIXTURES.tensors("steps.safetensors", f"case{case['case']}.")
    close(backbone.process.noised(stored["latents"], stored["noise"], stored["timesteps"]), stored["noisy_latents"])
    weights = Weights.copy(backbone, choose(backbone, case["parameter_group"]))
    assert set(weights.names) == set(case["selected"])
    target = case["loss_type"].removesuffix("-based")
    settings = {"train": case["parameter_group"], "target": target, "lr": case["lr"], "clip": case["max_grad_norm"]}

    whole = below(stored, "grad_without_bos_detach.")
    if whole:
        released_loss(ConceptAblation(**settings), backbone, weights, case, stored).backward()
        close_gradients({name: value.grad for name, value in weights.items() if name in whole}, whole)
        weights.zero_grad()

    method = ConceptAblation(**settings, first_token=False)
    loss = released_loss(method, backbone, weights, case, stored)
    close(loss.detach(), stored["loss"])
    loss.backward()
    gradients = below(stored, "grad.")
    close_gradients({name: value.grad for name, value in weights.items() if name in gradients}, gradients)
    norm = torch.nn.utils.clip_grad_norm_(weights.parameters(), method.clip)
    close(norm, stored["grad_norm_before_clip"], 1e-4)
    torch.optim.AdamW(weights.parameters(), lr=method.lr, weight_decay=method.weight_decay).step()
    for name, value in weights.items():
        if f"after.{name}" in stored:
            close_after_adam(value.detach(), stored[f"after.{name}"], gradients[name], method.lr)


@every_case
def test_the_masked_loss_is_as_many_times_too_large_as_latents_have_channels(case):
    stored = FIXTURES.tensors("steps.safetensors", f"case{case['case']}.")
    half = edited(case, stored["pred_trained"])
    parts = [stored[name][:half] for name in ("pred_trained", "target", "mask")]
    ratio = masked_error(*parts, channels=False) / masked_error(*parts)
    assert float(ratio) == pytest.approx(stored["latents"].shape[1], rel=1e-5)
