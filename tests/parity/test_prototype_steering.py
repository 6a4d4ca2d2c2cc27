"""Prototypes, covariance, gates, directions and transports against conditional activation transport's numbers."""

import re

import pytest
import torch

from stages.interventions.steering.gates import gate_open
from stages.interventions.steering.maps import Transport, attract, network, project, renormed, shift
from stages.objectives.statistics import (
    discriminant,
    pooled_covariance,
    prototype_direction,
    ridge_precision,
    source_posterior,
    source_region,
    squared_distance,
)
from tests.parity.fixtures import Fixtures, below

FIXTURES = Fixtures("methods/prototype_steering")
STATISTICS, EXACT = {"rtol": 1e-4, "atol": 1e-5}, {"rtol": 1e-9, "atol": 1e-12}
STEER = {"rtol": 2e-5, "atol": 1e-5}


def inputs(dtype=torch.float32):
    data = FIXTURES.tensors("inputs.safetensors")
    return tuple(data[name].to(dtype) for name in ("source", "target", "x"))


def suffixed(dtype):
    return "_f64" if dtype == torch.float64 else ""


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_statistics(dtype):
    source, target, x = inputs(dtype)
    wanted, pooled, end = FIXTURES.tensors("statistics.safetensors"), x.mean(1), suffixed(dtype)
    tolerance = EXACT if end else STATISTICS
    covariance = pooled_covariance(source, target)
    weight, bias = discriminant(source, target)
    region = source_region(source, FIXTURES.config["ood_quantile"])
    found = {
        "covariance": covariance,
        "precision": ridge_precision(covariance, len(source) + len(target)),
        "gda_logits": pooled @ weight.T + bias,
        "gda_prob_source": source_posterior(pooled, weight, bias),
        "ood_threshold": region["limit"],
        "ood_distances": squared_distance(pooled, region["mean"], region["precision"]),
    }
    if not end:
        train = squared_distance(source, region["mean"], region["precision"])
        found |= {"mu_source": source.mean(0), "mu_target": target.mean(0), "gda_W": weight, "gda_b": bias}
        found |= {"ood_precision": region["precision"], "ood_train_distances": train}
    for name, value in found.items():
        torch.testing.assert_close(value, wanted[name + end], **tolerance)


def test_directions():
    source, target, _ = inputs(torch.float64)
    wanted = FIXTURES.tensors("statistics.safetensors")
    torch.testing.assert_close(prototype_direction(source, target), wanted["direction_euclid_f64"], **EXACT)
    found = prototype_direction(source, target, "MAHALANOBIS")
    torch.testing.assert_close(found, wanted["direction_mahalanobis_f64"], **EXACT)


def gates():
    """The tensors of every gate, by the fixture's name for it."""
    source, target, _ = inputs()
    weight, bias = discriminant(source, target)
    threshold = torch.tensor(FIXTURES.config["gda_threshold"])
    return {
        "gda": ("discriminant", {"gate_weight": weight, "gate_bias": bias, "threshold": threshold}),
        "ood": ("region", source_region(source, FIXTURES.config["ood_quantile"])),
        "nearest": ("nearest", {"source": source.mean(0), "other": target.mean(0)}),
    }


def test_gates():
    pooled, wanted, made = inputs()[2].mean(1), FIXTURES.tensors("statistics.safetensors"), gates()
    assert torch.equal(gate_open(made["gda"][0], pooled, made["gda"][1]), wanted["gda_gate"])
    always = made["gda"][1] | {"threshold": torch.tensor(0.0)}
    assert torch.equal(gate_open("discriminant", pooled, always), wanted["gda_gate_code_default"])
    assert torch.equal(gate_open(made["ood"][0], pooled, made["ood"][1]), wanted["ood_gate"])
    nearest = FIXTURES.tensors("low_n.safetensors")["nearest_is_source"]
    assert torch.equal(gate_open(made["nearest"][0], pooled, made["nearest"][1]), nearest)
    assert gate_open("none", pooled, {}).all()


def test_fewer_samples_than_dimensions():
    source, target, _ = inputs()
    wanted = FIXTURES.tensors("low_n.safetensors")
    n = int(wanted["n"])
    few = source[: n // 2], target[: n - n // 2]
    covariance = pooled_covariance(*few)
    precision = ridge_precision(covariance, n)
    torch.testing.assert_close(covariance, wanted["covariance"], **STATISTICS)
    torch.testing.assert_close(precision, wanted["precision"], **STATISTICS)
    assert torch.linalg.eigvalsh(precision.double()).min() > 0


def steered(name):
    """The steered activations that a tensor of the fixture is named after."""
    source, target, x = inputs(torch.float64 if name.endswith("_f64") else torch.float32)
    euclid, mahalanobis = (prototype_direction(source, target, d) for d in ("EUCLIDEAN", "MAHALANOBIS"))
    kind, strength = re.match(r"(\w+?)_s(-?[\d.]+)", name).groups()
    by = {"direction": mahalanobis if kind == "mahalanobis" else euclid, "target": target.mean(0)}
    form = {"attract": attract, "project": project}.get(kind, shift)
    moved = form(x, by, float(strength))
    if "_renorm" in name:
        return renormed(moved, x)
    for gate, (which, tensors) in gates().items():
        if name.endswith(f"_{gate}"):
            is_open = gate_open(which, x.mean(1), tensors)
            return torch.where(is_open[:, None, None], moved, x)
    return moved


def test_forms_strengths_and_gates():
    wanted = FIXTURES.tensors("steer.safetensors")
    names = [name for name in wanted if not name.startswith(("mode_", "linear_transport_bug"))]
    assert len(names) > 5
    for name in names:
        torch.testing.assert_close(steered(name), wanted[name], **STEER)


def test_modes_name_their_half(backbone_free_steering):
    wanted = FIXTURES.tensors("steer.safetensors")
    source, target, x = inputs()
    for mode in ("CONDITIONAL", "UNCONDITIONAL", "BOTH"):
        found = backbone_free_steering(mode, prototype_direction(source, target), x)
        torch.testing.assert_close(found, wanted[f"mode_{mode}"], **STEER)


@pytest.fixture
def backbone_free_steering():
    """Applies a Steering's own edit at the moment that the fixture describes: conditional rows first."""
    from stages.control.sites import Moment, Site
    from stages.interventions.steering.steering import Steering, role_strengths

    def apply(mode, direction, x):
        site, size = Site(0, "ff"), len(x) // 2
        note = re.search(
            r"strength_cond ([\d.]+), strength_uncond ([\d.]+)",
            FIXTURES.manifest["files"]["steer.safetensors"]["tensors"][f"mode_{mode}"]["meaning"],
        )
        strengths = {(site, 0): role_strengths(mode, *map(float, note.groups()))}
        made = Steering("shift", {(site, 0): {"direction": direction}}, strengths)
        return made.edit(x, Moment(0, site, {"cond": slice(0, size), "uncond": slice(size, 2 * size)}))

    return apply


@pytest.mark.parametrize("kind", ["plain", "residual", "residual_norm"])
def test_network_transport(kind):
    data = FIXTURES.tensors("mlp_transport.safetensors")
    source, target, x = inputs()
    state = below(data, f"{kind}.param.")
    if kind == "plain":
        state["plain"] = torch.ones(1)
    made = Transport.of(state)
    torch.testing.assert_close(made(source), data[f"{kind}.forward_source"], **STEER)
    loss = (made(source) - target).square().mean()
    torch.testing.assert_close(loss.detach(), data[f"{kind}.mse"], **STEER)
    grad = torch.autograd.grad(loss, made.model[0].weight)[0]
    torch.testing.assert_close(grad, data[f"{kind}.grad_first_weight"], rtol=1e-4, atol=1e-6)
    which, tensors = gates()["ood"]
    for name in [n for n in data if re.match(rf"{kind}\.steer_s[\d.]+", n)]:
        strength = float(re.search(r"_s([\d.]+)", name)[1])
        moved = network(x, state, strength).detach()
        if name.endswith("_ood"):
            moved = torch.where(gate_open(which, x.mean(1), tensors)[:, None, None], moved, x)
        torch.testing.assert_close(moved, data[name], **STEER)


def test_a_fresh_residual_transport_is_the_identity_and_a_plain_one_is_not():
    source, _, _ = inputs()
    generator = torch.Generator().manual_seed(0)
    for residual, wanted in ((True, source), (False, torch.zeros_like(source))):
        made = Transport(source.shape[1], FIXTURES.config["hidden"], residual=residual).restart(generator)
        assert torch.equal(made(source), wanted)
