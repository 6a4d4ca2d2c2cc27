"""What a gate tells the class steered from apart from: the class steered to, or the prompts that must not change."""

import pytest
import torch

from stages.methods.casteer import CASteer
from stages.methods.mean_difference import MeanDifference
from stages.methods.prototype_steering import PrototypeSteering
from stages.methods.shared.classes import Classes, activations, sites_at


@pytest.mark.parametrize(
    ("gate", "against", "retained"),
    [
        ("discriminant", "retain", True),
        ("nearest", "retain", True),
        ("region", "retain", False),
        ("none", "retain", False),
        ("discriminant", "target", False),
    ],
)
def test_a_gate_is_trained_against_the_retain_prompts_if_it_asks_for_them(backbone, concept, gate, against, retained):
    method, sites = CASteer(samples=2, gate=gate, against=against), sites_at(backbone, "ca")[:1]
    target = activations(backbone, Classes.of(concept, 2).target, sites, 0)
    others = method.others(backbone, concept, sites, 0, target)
    assert (others is not target) == retained
    if retained:
        wanted = activations(backbone, [concept.retain[0]] * 2, sites, 0)
        assert torch.equal(others.get(sites[0], 0), wanted.get(sites[0], 0))


def test_a_methods_gate_is_handed_on_whole(backbone, concept):
    gating = {"samples": 2, "gate": "discriminant", "against": "retain", "threshold": 0.5, "quantile": 0.9}
    method = MeanDifference(location="ca", mode="BOTH", **gating)
    assert gating.items() <= method.gating().items()
    other = PrototypeSteering(location="ca", **gating).fit(backbone, concept, seed=0).tensors()
    found = method.fit(backbone, concept, seed=0).tensors()
    assert found.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in found.items())
