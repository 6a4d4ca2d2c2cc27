"""An adversary moves against a training, through a network in float16 too, and goes on where it was."""

import pytest
import torch

from stages.methods.shared.adversary import Adversary


def loss(adversary):
    """Of a gradient below what float16 can hold."""
    return adversary.values.half().float().sum() * 1e-9


@pytest.mark.parametrize(("through_float16", "moved"), [(False, False), (True, True)])
def test_small_gradients_survive_float16_if_they_are_scaled(through_float16, moved):
    adversary = Adversary(torch.zeros(3), lr=0.1)
    adversary.step(loss(adversary), through_float16=through_float16)
    assert (adversary.values < 0).tolist() == [moved] * 3


def test_it_goes_on_where_it_was():
    unbroken, stopped, resumed = (Adversary(torch.ones(2), lr=0.1) for _ in range(3))

    def steps(adversary, n):
        for _ in range(n):
            adversary.step((adversary.values - 3).square().sum())
        return adversary.values.detach()

    steps(stopped, 2)
    resumed.load_state_dict(stopped.state_dict())
    assert torch.equal(steps(resumed, 3), steps(unbroken, 5))
