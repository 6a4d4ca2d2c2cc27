"""Vectors, erasure and addition of CASteer against its controllers' numbers."""

import pytest
import torch

from stages.interventions.steering.maps import erase, renormed, shift
from stages.interventions.steering.steering import decayed, stored_step
from stages.objectives.statistics import unit_direction
from tests.parity.fixtures import Fixtures

FIXTURES = Fixtures("methods/casteer")
CLOSE = {"rtol": 2e-5, "atol": 1e-5}


def vectors(dtype):
    """Unit directions (step, layer, dim) from the conditional half of the pairs' activations."""
    data = FIXTURES.tensors("inputs.safetensors")
    positive, negative = (pooled(data[name].to(dtype)) for name in ("pos", "neg"))
    steps, layers = positive.shape[:2]
    return torch.stack(
        [torch.stack([unit_direction(positive[s, j], negative[s, j]) for j in range(layers)]) for s in range(steps)]
    )


def pooled(activations):
    """(step, layer, pair, 2B, token, dim) to (step, layer, pair, dim) of the second half."""
    half = activations.shape[3] // 2
    return activations[:, :, :, half:].mean((3, 4))


def applied(form, strength, directions):
    """Every evaluation step and layer steered by the vector of its step, or of the last one stored."""
    x = FIXTURES.tensors("inputs.safetensors")["x"]
    out = x.clone()
    for step in range(len(x)):
        size = strength(step) if callable(strength) else strength
        for layer in range(x.shape[1]):
            vector = directions[stored_step(step, range(len(directions)))][layer]
            if vector.abs().sum() > 0:
                h = x[step, layer]
                out[step, layer] = renormed(form(h, {"direction": vector}, size), h)
    return out


def test_vectors_of_the_conditional_half():
    wanted = FIXTURES.tensors("vectors.safetensors")
    found = pooled(FIXTURES.tensors("inputs.safetensors")["pos"])
    torch.testing.assert_close(found.permute(2, 0, 1, 3), wanted["pooled_pos"], **CLOSE)
    torch.testing.assert_close(vectors(torch.float32), wanted["vector"], **CLOSE)
    torch.testing.assert_close(vectors(torch.float64), wanted["vector_f64"], rtol=1e-6, atol=1e-7)
    dead = wanted["vector"].abs().sum(-1) == 0
    assert (vectors(torch.float32)[dead] == 0).all()


@pytest.mark.parametrize("beta", FIXTURES.config["betas"])
def test_erasure(beta):
    wanted = FIXTURES.tensors("apply.safetensors")[f"erase_beta{beta:g}"]
    torch.testing.assert_close(applied(erase, beta, vectors(torch.float32)), wanted, **CLOSE)


def test_addition_with_and_without_decay():
    wanted, alpha, directions = FIXTURES.tensors("apply.safetensors"), FIXTURES.config["alpha"], vectors(torch.float32)
    torch.testing.assert_close(applied(shift, alpha, directions), wanted["add"], **CLOSE)
    total = FIXTURES.config["eval_steps"]
    table = torch.tensor([alpha * decayed(step, total) for step in range(total)], dtype=torch.float64)
    torch.testing.assert_close(table, wanted["alpha_decay_table"])
    falling = applied(shift, lambda step: alpha * decayed(step, total), directions)
    torch.testing.assert_close(falling, wanted["add_decay"], **CLOSE)


def test_a_single_stored_step_serves_all():
    wanted = FIXTURES.tensors("apply.safetensors")
    name = next(key for key in wanted if key.endswith("_single_key"))
    beta = float(name.removeprefix("erase_beta").removesuffix("_single_key"))
    torch.testing.assert_close(applied(erase, beta, vectors(torch.float32)[-1:]), wanted[name], **CLOSE)
