"""GEM: pulled towards the anchor, pushed off the concept, at the first states of a run; LoRA on queries and keys."""

from dataclasses import replace

import pytest
import torch

from stages.methods import load_method
from stages.methods.gem import GEM, queries_and_keys
from stages.methods.shared.base import frozen, run
from stages.objectives import contrast
from stages.params.concept import Concept
from tests.backbones import tiny_infinity
from tests.backbones.families import FAMILIES

RED = Concept("red", ("a red circle",), ("a blue square",), ("a green circle",))
QUICK = GEM(window=2, rank=2, batch=2, steps=2, lr=0.01, lora_alpha=2.0)


def test_the_contrast_of_rows_by_hand():
    anchor, target = torch.zeros(2, 2), torch.tensor([[6.0, 8.0], [1.0, 0.0]])
    prediction = torch.tensor([[3.0, 4.0], [1.0, 0.0]])
    assert float(contrast(prediction, anchor, target, 1.0)) == pytest.approx((0 + 1) / 2)  # halfway, and on the target
    assert float(contrast(prediction, anchor, target, 0.5)) == pytest.approx((2.5 + 1) / 2)
    assert float(contrast(anchor, anchor, target, 1.0)) == 0
    start = target.clone().requires_grad_()
    contrast(start, anchor, target, 1.0).backward()
    assert torch.allclose(start.grad, torch.tensor([[0.6, 0.8], [1.0, 0.0]]) / 2)  # on the target only the pull


@pytest.mark.parametrize(
    ("family", "ends"),
    [
        ("flux-dev", {"add_q_proj", "add_k_proj", "to_q", "to_k"}),
        ("sd3", {"add_q_proj", "add_k_proj", "to_q", "to_k"}),
        ("unet", {"to_q", "to_k"}),
        ("cogvideox-2b", {"to_q", "to_k"}),
    ],
)
def test_queries_and_keys_are_those_of_both_streams_or_of_the_texts_attention(made, family, ends):
    layers = queries_and_keys(made(family))
    assert {layer.rpartition(".")[2] for layer in layers} == ends
    assert not any("single" in layer or "attn1" in layer for layer in layers if family in ("flux-dev", "unet"))


@pytest.mark.parametrize("family", ["flux-dev", "unet"])
def test_the_concept_ends_nearer_to_the_anchors_velocity_than_to_its_own(family):
    backbone = FAMILIES[family].make(steps=3)
    asked, anchor = backbone.encode(RED.prompts), backbone.encode(RED.neutral)
    state = next(run(backbone, backbone, asked, torch.Generator().manual_seed(0), 3.0))
    towards, off = frozen(backbone, state, anchor), frozen(backbone, state, asked)
    lora = replace(QUICK, eta=0.8, rank=8, lora_alpha=8.0, steps=30, lr=0.01).fit(backbone, RED, seed=0)
    with torch.no_grad(), lora.attach(backbone):
        after = backbone.predict(state, asked)
    assert (after - towards).norm() < (after - off).norm()
    assert contrast(after, towards, off, 0.8) < 0.5 * contrast(off, towards, off, 0.8)


def test_a_step_starts_from_the_distance_of_both_prompts_on_the_first_states_of_a_run(backbone, concept, monkeypatch):
    seen, erase = [], GEM.erasure
    monkeypatch.setattr(GEM, "erasure", lambda *told: seen.append((told[3], float(value := erase(*told)))) or value)
    replace(QUICK, steps=1).fit(backbone, concept, seed=0)
    assert [state.step for state, _ in seen] == [0, 1]
    for state, value in seen:
        pairs = {}
        for shows, neutral in concept.pairs():
            ours, theirs = (frozen(backbone, state, backbone.encode([p]).repeat(2)) for p in (shows, neutral))
            pairs[shows] = (ours - theirs).flatten(1).norm(dim=1)
        first, second = pairs.values()
        sums = [float((one[0] + other[1]) / 2) for one in (first, second) for other in (first, second)]
        assert any(value == pytest.approx(wanted, rel=1e-4) for wanted in sums)


def test_a_run_of_few_calls_is_taken_whole_and_its_end_is_no_state_to_ask_at(backbone):
    assert replace(QUICK, window=99).states(backbone) == backbone.calls(backbone.settings.steps) == 4


def test_the_papers_preset_spends_the_codes_budget_of_states():
    method = load_method("gem", "flux-dev")
    assert method.steps * method.window >= 250 > (method.steps - 1) * method.window
    assert (method.rank, method.lora_alpha, method.eta, method.guidance, method.lr) == (16, 16, 1, 3, 1e-3)
    assert load_method("gem", "sd3-medium").lr == 2e-4


def test_a_family_without_a_run_is_refused(concept):
    with pytest.raises(ValueError, match="no denoising run to stop half way; GEM trains on the states of one; choose"):
        QUICK.fit(tiny_infinity.make(steps=2), concept, seed=0)
