"""A training that went astray ends with what went wrong, even if no loss was left to show it."""

import pytest
import torch
from torch import nn

from stages.methods.esd import ESD
from stages.training.minimize import minimize
from stages.training.settings import Training


def weight_and_loss(factor=1.0):
    weight = nn.Parameter(torch.ones(2))
    return weight, lambda step, generator: (factor * weight).square().sum()


def test_parameters_that_diverge_in_the_last_step_are_refused():
    for lr in (1e25, 1e30):
        weight, loss = weight_and_loss()
        with pytest.raises(
            FloatingPointError, match="mine: parameters are not finite after step 0; lower the learning"
        ):
            minimize(loss, [weight], Training(steps=1, lr=lr), seed=0, label="mine")


def test_a_method_that_diverges_in_its_last_step_is_refused(backbone, concept):
    method = ESD(states="frozen", steps=1, lr=1e25)
    with pytest.raises(FloatingPointError, match="esd: parameters are not finite after step 0; lower the learning"):
        method.fit(backbone, concept, seed=0)


def test_before_anything_is_learned_the_learning_rate_is_not_to_blame():
    weight, loss = weight_and_loss(float("inf"))
    with pytest.raises(FloatingPointError, match="the loss is inf at step 0; nothing was learned yet") as caught:
        minimize(loss, [weight], Training(steps=1, lr=0.1), seed=0)
    assert "learning rate" not in str(caught.value)
    weight, loss = weight_and_loss()
    with pytest.raises(FloatingPointError, match="at step 1; lower the learning rate"):
        minimize(loss, [weight], Training(steps=3, lr=1e20), seed=0)
