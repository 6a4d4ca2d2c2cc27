"""Linear, Gaussian and mean activation transport, their supports, and incremental learning on a toy network."""

import re

import pytest
import torch

from stages.interventions.steering.maps import affine, affine_pooled, affine_shift
from stages.methods.activation_transport import in_turn
from stages.objectives.statistics import (
    NOWHERE,
    gaussian_transport,
    linear_transport,
    lively,
    mean_transport,
    support,
)
from tests.parity.fixtures import Fixtures

FIXTURES = Fixtures("methods/activation_transport")
FIT, APPLY = {"rtol": 1e-5, "atol": 1e-6}, {"rtol": 1e-5, "atol": 1e-5}


def percentiles(name):
    """`q_5_95` to (5, 95), `q_all` to (None, None)."""
    return (None, None) if name == "q_all" else tuple(float(part) for part in name.split("_")[1:])


def fitted(kind):
    """Source and map of one kind, without its support."""
    data = FIXTURES.tensors("inputs.safetensors")
    if kind == "linear":
        return data["source"], linear_transport(data["source"], data["target"]), None
    source, target = data["source_g"], data["target_g"]
    made = {"gaussian": gaussian_transport, "mean": mean_transport}[kind](source, target)
    return source, made, lively(source, target)


def bounds(source, name, active):
    found = support(source, *percentiles(name))
    return found if active is None else torch.where(active, found, found.new_tensor(NOWHERE)[:, None])


def test_linear_fit():
    data, wanted = FIXTURES.tensors("inputs.safetensors"), FIXTURES.tensors("fit.safetensors")
    found = linear_transport(data["source"], data["target"])
    torch.testing.assert_close(found["weight"], wanted["w"], **FIT)
    torch.testing.assert_close(found["bias"], wanted["b"], **FIT)
    exact = linear_transport(data["source"].double(), data["target"].double())
    torch.testing.assert_close(exact["weight"], wanted["w_f64"])
    torch.testing.assert_close(exact["bias"], wanted["b_f64"])


def test_gaussian_moments_and_the_neurons_that_move():
    data, wanted = FIXTURES.tensors("inputs.safetensors"), FIXTURES.tensors("fit.safetensors")
    source, target = data["source_g"], data["target_g"]
    assert torch.equal(lively(source, target), wanted["g_active"])
    found = gaussian_transport(source, target)
    active = wanted["g_active"]
    moved = found["weight"] * wanted["g_mu_src"] + found["bias"]
    torch.testing.assert_close(moved[active], wanted["g_mu_dst"][active], **APPLY)
    torch.testing.assert_close(found["weight"][active], (wanted["g_std_dst"] / wanted["g_std_src"])[active], **FIT)


def test_supports():
    data, wanted = FIXTURES.tensors("inputs.safetensors"), FIXTURES.tensors("fit.safetensors")
    names = [name for name in wanted if name.startswith("quantile_")]
    assert names
    for name in names:
        source = data["source_g" if name.startswith("quantile_g_") else "source"]
        found = support(source, *percentiles(re.sub("^quantile_(g_)?", "", name)))
        torch.testing.assert_close(found, wanted[name], **FIT)


@pytest.mark.parametrize("region", FIXTURES.config["supports"])
@pytest.mark.parametrize("kind", ["linear", "gaussian", "mean"])
def test_application(kind, region):
    data, wanted = FIXTURES.tensors("inputs.safetensors"), FIXTURES.tensors(f"apply_{kind}.safetensors")
    source, made, active = fitted(kind)
    by = made | {"support": bounds(source, region, active)}
    conv = affine_shift if kind == "linear" else affine_pooled
    pixels = data["x4"].flatten(2).transpose(1, 2)  # the channels of a convolution as tokens
    for row, strength in enumerate(FIXTURES.config["strengths"]):
        tokens = affine(data["x3"], by, strength)
        near = edge(data["x3"], by["support"])
        torch.testing.assert_close(tokens[~near], wanted[f"x3.{region}"][row][~near], **APPLY)
        found = conv(pixels, by, strength).transpose(1, 2).reshape(data["x4"].shape)
        near = edge(data["x4"].mean((2, 3)), by["support"])  # the support is of a channel's mean
        torch.testing.assert_close(found[~near], wanted[f"x4.{region}"][row][~near], **APPLY)


def edge(h, region):
    """Values so close to the support's ends that rounding decides."""
    return (h - region[0]).abs().minimum((h - region[1]).abs()) < 1e-6


class Toy:
    """x <- tanh(x W^T + b), three times, a map on each linear layer's output."""

    def __init__(self, data):
        count = len([name for name in data if re.fullmatch(r"layer\d+\.weight", name)])
        self.layers = [(data[f"layer{i}.weight"], data[f"layer{i}.bias"]) for i in range(count)]

    def run(self, x, maps, strength=1.0):
        """The output and each layer's output as its map sees it."""
        seen = []
        for i, (weight, bias) in enumerate(self.layers):
            x = x @ weight.T + bias
            if i in maps:
                x = affine(x, maps[i], strength)
            seen.append(x.mean(1))
            x = x.tanh()
        return x, seen


def learned(data, name):
    toy = Toy(data)

    def collect(layer, maps):
        source = toy.run(data["x_source"], maps)[1][layer]
        target = toy.run(data["x_target"], {} if name == "incr_source_only" else maps)[1][layer]
        return source, target

    def fit(source, target):
        return linear_transport(source, target) | {"support": support(source, 0, 100)}

    return in_turn(range(len(toy.layers)), collect, fit, incremental=name != "atonce")


@pytest.mark.parametrize("name", ["atonce", "incr_both", "incr_source_only"])
def test_incremental_learning(name):
    data = FIXTURES.tensors("incremental_toy.safetensors")
    toy, maps = Toy(data), learned(data, name)
    for part, key in (("weight", "w"), ("bias", "b"), ("support", "support")):
        found = torch.stack([maps[i][part] for i in range(len(toy.layers))])
        torch.testing.assert_close(found, data[f"{name}.{key}"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(toy.run(data["x_eval"], {})[0], data["out_plain"], **APPLY)
    outputs = [key for key in data if key.startswith(f"{name}.out_lam")]
    assert outputs
    for key in outputs:
        found = toy.run(data["x_eval"], maps, float(key.partition("_lam")[2]))[0]
        torch.testing.assert_close(found, data[key], rtol=1e-4, atol=1e-4)
