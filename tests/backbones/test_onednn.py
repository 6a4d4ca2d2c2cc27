"""Linear layers by oneDNN: the same modules and weights, the same numbers up to rounding."""

from __future__ import annotations

import copy

import peft
import pytest
import torch
from torch import nn

from Infinity.linear import Linear, has_onednn
from stages.backbones.core.onednn import multiply_by_onednn

ROWS, WIDTH = 96, 128  # enough products for oneDNN


class Special(nn.Linear):
    """A linear layer with a forward of its own."""


@pytest.fixture
def pair() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.GELU(), nn.Linear(WIDTH, WIDTH, bias=False), Special(WIDTH, 4))
    changed = copy.deepcopy(plain)
    multiply_by_onednn(changed)
    return plain, changed


def test_only_plain_layers_change_and_no_weight_does(pair: tuple[nn.Module, nn.Module]) -> None:
    plain, changed = pair
    assert [type(module) for module in changed] == [Linear, nn.GELU, Linear, Special]
    assert list(changed.state_dict()) == list(plain.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), changed.parameters(), strict=True))


def test_outputs_and_gradients_are_equal_to_rounding(pair: tuple[nn.Module, nn.Module]) -> None:
    x = torch.randn(ROWS, WIDTH, generator=torch.Generator().manual_seed(1))
    results = []
    for model in pair:
        out = model(x)
        results.append([out, *torch.autograd.grad(out.square().sum(), list(model.parameters()))])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(not has_onednn(torch.zeros(ROWS, WIDTH)), reason="oneDNN does not multiply here")
def test_it_is_onednn_that_multiplies(pair: tuple[nn.Module, nn.Module]) -> None:
    with torch.profiler.profile() as profiled:
        pair[1](torch.randn(ROWS, WIDTH))
    assert any(event.name == "mkldnn::_linear_pointwise" for event in profiled.events())


def test_lora_still_fits(pair: tuple[nn.Module, nn.Module]) -> None:
    adapted = peft.get_peft_model(pair[1], peft.LoraConfig(r=2, target_modules=["0", "2"]))
    adapted(torch.randn(ROWS, WIDTH)).sum().backward()
    found = {name: p.grad for name, p in adapted.named_parameters() if "lora_" in name}
    assert len(found) == 4 and all(gradient is not None for gradient in found.values())
