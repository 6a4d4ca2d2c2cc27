"""Rerouting and retain losses, their averages, schedule and gradients against the reference trainer's numbers."""

import pytest
import torch

from stages.objectives.rerouting import (
    balanced_mean,
    centred,
    coefficients,
    masked_mean,
    padded_mean,
    scale_means,
    token_cosine,
    token_distance,
)
from tests.parity.fixtures import Fixtures

FIXTURES = Fixtures("methods/circuit_breaker")
EXACT = {"rtol": 1e-10, "atol": 1e-12}
REFERENCE = {"rtol": 2e-5, "atol": 1e-6}


def double(file):
    return {
        name: value.double() if value.is_floating_point() else value for name, value in FIXTURES.tensors(file).items()
    }


def gradient(loss, states):
    states = states.clone().requires_grad_(True)
    value = loss(states)
    return value.detach(), torch.autograd.grad(value, states)[0]


def check(found, wanted, tolerance=EXACT):
    torch.testing.assert_close(found, wanted, **tolerance)


def losses(data):
    """Each loss of the adapted states, by the name of its values."""
    layers = FIXTURES.config["target_layers"]
    cosine = lambda s: token_cosine(data["cb_ref"][layers], s[layers])  # noqa: E731
    distance = lambda s, norm="plain": token_distance(data["retain_ref"], s, norm)  # noqa: E731
    retain, cb = data["retain_mask"], data["cb_mask"]
    return {
        "retain_original": lambda s: padded_mean(distance(s), retain),
        "retain_masked": lambda s: masked_mean(distance(s), retain),
        "retain_relative": lambda s: masked_mean(distance(s, "relative"), retain),
        "retain_sqrtD": lambda s: masked_mean(distance(s, "root"), retain),
        "cb": lambda s: masked_mean(cosine(s).relu(), cb),
    }


def test_per_token_values():
    data, wanted = double("inputs.safetensors"), double("formula_f64.safetensors")
    layers = FIXTURES.config["target_layers"]
    check(token_distance(data["retain_ref"], data["retain_adapted"]), wanted["retain_norm_f64"])
    check(token_cosine(data["cb_ref"][layers], data["cb_adapted"][layers]), wanted["cb_cos_f64"])


@pytest.mark.parametrize("name", ["retain_original", "retain_masked", "retain_relative", "retain_sqrtD", "cb"])
def test_losses_and_gradients(name):
    data, wanted = double("inputs.safetensors"), double("formula_f64.safetensors")
    states = data["cb_adapted" if name == "cb" else "retain_adapted"]
    value, grad = gradient(losses(data)[name], states)
    check(value, wanted[f"{name}_f64"])
    if f"grad_{name}_f64" in wanted:
        check(grad, wanted[f"grad_{name}_f64"])


def test_the_total_of_the_masked_form():
    data, wanted = double("inputs.safetensors"), double("formula_f64.safetensors")
    config, made = FIXTURES.config, losses(data)
    breaker, retain = coefficients(config["steps"][len(config["steps"]) // 2], config["alpha"], config["horizon"])
    kept, kept_grad = gradient(lambda s: retain * made["retain_masked"](s), data["retain_adapted"])
    broken, broken_grad = gradient(lambda s: breaker * made["cb"](s), data["cb_adapted"])
    check(kept + broken, wanted["total_masked_mid_f64"])
    check(kept_grad, wanted["grad_total_masked_retain_f64"])
    check(broken_grad, wanted["grad_total_masked_cb_f64"])


def test_the_released_trainers_steps():
    data, wanted = FIXTURES.tensors("inputs.safetensors"), FIXTURES.tensors("reference_fp32.safetensors")
    made = losses(data)
    for row, step in enumerate(wanted["steps"].tolist()):
        breaker, retain = coefficients(step, FIXTURES.config["alpha"], FIXTURES.config["horizon"])
        assert (breaker, retain) == pytest.approx((float(wanted["c_cb"][row]), float(wanted["c_retain"][row])))
        kept, kept_grad = gradient(made["retain_original"], data["retain_adapted"])
        broken, broken_grad = gradient(made["cb"], data["cb_adapted"])
        check(kept, wanted["retain_original"][row], REFERENCE)
        check(broken, wanted["cb"][row], REFERENCE)
        check(retain * kept + breaker * broken, wanted["total_original"][row], REFERENCE)
        check(retain * kept_grad, wanted["grad_retain_adapted"][row], REFERENCE)
        check(breaker * broken_grad, wanted["grad_cb_adapted"][row], REFERENCE)


def test_the_table_of_coefficients():
    table = FIXTURES.json("schedule.json")
    for row in table["rows"]:
        found = coefficients(row["step"], table["alpha"], row["horizon"])
        assert found == pytest.approx((row["c_cb"], row["c_retain"]), abs=1e-12)


@pytest.mark.parametrize("file", FIXTURES.files("scale_balanced"))
def test_scale_balanced_losses(file):
    data = FIXTURES.tensors(file)
    lengths = FIXTURES.manifest["files"][file]["config"]["tokens_per_scale"]
    inside = slice(0, sum(lengths))
    reference, centre = data["ref"][..., inside, :], data["centre"]

    def cosine(states):
        return token_cosine(reference, states[..., inside, :]).relu()

    def cosine_centred(states):
        a, b = (centred(part, centre, lengths) for part in (reference, states[..., inside, :]))
        return token_cosine(a, b).relu()

    def distance(norm):
        return lambda states: token_distance(reference, states[..., inside, :], norm)

    adapted = data["adapted"]
    check(token_cosine(reference, adapted[..., inside, :]), data["cos"])
    check(scale_means(cosine(adapted), lengths), data["cb_per_scale"])
    check(masked_mean(cosine(adapted)), data["cb_token_mean"])
    check(scale_means(distance("root")(adapted), lengths), data["retain_per_scale"])
    values = {
        "cb_balanced": cosine,
        "cb_balanced_centred": cosine_centred,
        "retain_balanced": distance("root"),
        "retain_balanced_rel": distance("relative"),
    }
    for name, per_token in values.items():
        value, grad = gradient(lambda s, per_token=per_token: balanced_mean(per_token(s), lengths), adapted)
        check(value, data[name])
        check(grad, data[f"grad_{name}"])
