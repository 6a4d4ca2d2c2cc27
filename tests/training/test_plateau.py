"""A plateau halves the learning rate as torch's own schedule does, and ends a training, also one that was resumed."""

import random

import pytest
import torch
from torch import nn

from stages.store.record import recording
from stages.training.minimize import minimize
from stages.training.plateau import Plateau
from stages.training.settings import Training

FLAT = Training(steps=400, lr=0.1, optimizer="adam")


def test_the_learning_rate_is_that_of_torchs_schedule():
    parameter, dice = nn.Parameter(torch.zeros(1)), random.Random(0)
    optimizer = torch.optim.Adam([parameter], lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=3, eps=0)
    ours = Plateau(epoch=2, patience=7)
    rates = set()
    for step in range(300):
        mean = 1 / (1 + step // 40) + dice.gauss(0, 0.01)
        ours.follow(mean - 0.5)
        ours.follow(mean + 0.5)
        theirs.step(mean)
        assert ours.factor == optimizer.param_groups[0]["lr"]
        rates.add(ours.factor)
    assert len(rates) > 4


def flat_loss(parameter, seen=None):
    def loss(step, generator):
        if seen is not None:
            seen.append(step)
        return parameter.square().sum() * 0 + 1.0

    return loss


def test_losses_that_no_longer_fall_end_the_training():
    plateau, parameter = Plateau(epoch=3, patience=4), nn.Parameter(torch.ones(2))
    history = minimize(flat_loss(parameter), [parameter], FLAT, seed=0, companions=[plateau])
    assert len(history.losses) == 3 * (1 + 4) and plateau.over  # the first epoch is the best
    falling = Plateau(epoch=3, patience=4)
    history = minimize(
        lambda step, generator: parameter.square().sum() * 0 + 1.0 - step / 400,
        [parameter],
        FLAT,
        seed=0,
        companions=[falling],
    )
    assert len(history.losses) == 400 and not falling.over and falling.factor == 1.0


def test_parameters_that_diverge_when_a_plateau_ends_the_training_are_told_at_that_step():
    parameter = nn.Parameter(torch.ones(2))

    def loss(step, generator):
        return (1e30 * parameter.sum() if step == 14 else parameter.sum() * 0) + 1.0

    plateau, training = Plateau(epoch=3, patience=4), Training(steps=400, lr=1e30, optimizer="adam")
    with pytest.raises(FloatingPointError, match="parameters are not finite after step 14; lower"):
        minimize(loss, [parameter], training, seed=0, companions=[plateau])


def test_a_resumed_training_keeps_its_place_on_the_plateau(tmp_path):

    def run(stop=None):
        parameter, plateau = nn.Parameter(torch.full((3,), 2.0)), Plateau(epoch=2, patience=4)

        def loss(step, generator):
            if step == stop:
                raise KeyboardInterrupt
            return (parameter - 1).abs().sum()

        history = minimize(loss, [parameter], FLAT, seed=0, companions=[plateau])
        return parameter.detach(), history.losses, plateau.factor

    unbroken = run()
    with pytest.raises(KeyboardInterrupt), recording(tmp_path, "train", params={}) as record:
        record.pause = 0  # every step is kept
        run(stop=len(unbroken[1]) - 5)
    with recording(tmp_path, "train", params={}):
        resumed = run()
    assert torch.equal(resumed[0], unbroken[0]) and resumed[1:] == unbroken[1:] and unbroken[2] < 1
