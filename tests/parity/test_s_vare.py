"""S-VARE's losses against its training step's numbers and their float64 forms."""

import pytest
import torch

from stages.methods.s_vare import SVARE
from stages.objectives import bit_cross_entropy, bit_divergence, filtered_cross_entropy, wrong_tokens
from tests.parity.fixtures import Fixtures

FIXTURES = Fixtures("methods/s_vare")
CONFIG = FIXTURES.config
INPUTS = FIXTURES.tensors("inputs.safetensors")
OUTPUTS = FIXTURES.tensors("outputs.safetensors")
SCALES = tuple(side * side for side in CONFIG["scale_sides"])


def margins(name, dtype=torch.float64):
    pairs = INPUTS[name].to(dtype).unflatten(-1, (CONFIG["bits"], 2))
    return pairs[..., 1] - pairs[..., 0]


def equal(actual, expected, rtol=1e-10):
    torch.testing.assert_close(actual, expected.to(actual.dtype), rtol=rtol, atol=1e-12)


def test_bits_and_tokens():
    student, bits = margins("student_target_logits"), INPUTS["bits"]
    equal(bit_cross_entropy(student, bits), OUTPUTS["bit_ce_f64"])
    wrong = student * (2 * bits - 1) < 0
    assert torch.equal(wrong, OUTPUTS["wrong_bits"])
    equal(wrong.double().mean(-1), OUTPUTS["token_error_rate_f64"])
    for dtype in (torch.float32, torch.float64):
        keep = wrong_tokens(margins("student_target_logits", dtype), bits)
        assert torch.equal(keep.bool(), OUTPUTS["keep"])


def test_erasure_in_every_normalisation():
    student, bits = margins("student_target_logits"), INPUTS["bits"]
    equal(filtered_cross_entropy(student, bits), OUTPUTS["erase_f64"])
    equal(filtered_cross_entropy(student, bits, kept=True), OUTPUTS["erase_kept_mean_f64"])
    equal(filtered_cross_entropy(student, bits, scales=SCALES), OUTPUTS["erase_scale_balanced_f64"])


def test_preservation():
    teacher, student = margins("teacher_neutral_logits"), margins("student_neutral_logits")
    whole = CONFIG["reg_lambda"] * bit_divergence(teacher, student)
    equal(whole, OUTPUTS["preserve_sum_f64"])
    equal(whole, OUTPUTS["kl_per_bit_f64"].mean() * CONFIG["reg_lambda"])
    equal(whole / 2, OUTPUTS["preserve_f64"])


@pytest.mark.parametrize("part", ["erase", "preserve"])
def test_the_methods_losses_and_gradients_in_float32(part):
    method = SVARE(preserve=CONFIG["reg_lambda"], half=True)
    name = {"erase": "student_target_logits", "preserve": "student_neutral_logits"}[part]
    logits = INPUTS[name].clone().requires_grad_()
    pairs = logits.unflatten(-1, (CONFIG["bits"], 2))
    student = pairs[..., 1] - pairs[..., 0]
    if part == "erase":
        loss = method.filtered(student, INPUTS["bits"], SCALES)
    else:
        loss = method.preserve * method.separation(margins("teacher_neutral_logits", torch.float32), student)
    torch.testing.assert_close(loss.detach(), OUTPUTS[part], rtol=2e-5, atol=1e-7)
    loss.backward()
    torch.testing.assert_close(logits.grad, OUTPUTS[f"grad_{part}"], rtol=2e-5, atol=1e-7)
