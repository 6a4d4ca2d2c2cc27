"""The training loop: exact resumption, the right minimum, and refusal of what cannot work."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from stages.backbones.core.base import State
from stages.interventions.weights import Weights
from stages.store.record import recording
from stages.training.float16 import LossScale, gradients
from stages.training.minimize import minimize
from stages.training.settings import Training

ONE, FIVE = (Training(steps=steps, lr=0.1) for steps in (1, 5))


def problem(dim=3):
    target = torch.arange(dim, dtype=torch.float32)
    weight = nn.Parameter(torch.zeros(dim))

    def loss(step, generator):
        return (weight - target + 0.1 * torch.randn(dim, generator=generator)).square().sum()

    return weight, target, loss


def interrupt(folder, loss, parameters, *, at=3, params=None, seed=0, **settings):
    """Begin a run recorded in `folder` and stop it before step `at`."""

    def interrupted(step, generator):
        if step == at:
            raise KeyboardInterrupt
        return loss(step, generator)

    training = Training(**{"steps": 5, "lr": 0.1} | settings)
    with pytest.raises(KeyboardInterrupt), recording(folder, "train", params=params or {}) as record:
        record.pause = 0  # every step is kept
        minimize(interrupted, parameters, training, seed=seed)


def test_it_finds_the_minimum():
    weight, target, loss = problem()
    history = minimize(loss, [weight], Training(steps=300, lr=0.1, schedule="cosine"), seed=0)
    assert torch.allclose(weight, target, atol=0.1)
    assert len(history.losses) == 300 and history.losses[-1] < history.losses[0]


@pytest.mark.parametrize("stop", [1, 7, 19])
def test_a_resumed_run_equals_an_unbroken_one(tmp_path, stop):
    settings = {"steps": 20, "lr": 0.1, "schedule": "cosine", "warmup": 4, "ema": 0.9, "clip": 1.0}
    weight, _, loss = problem()
    unbroken = minimize(loss, [weight], Training(**settings), seed=3)

    again, _, loss = problem()
    interrupt(tmp_path, loss, [again], at=stop, seed=3, **settings)
    fresh, _, loss = problem()
    with recording(tmp_path, "train", params={}) as record:
        resumed = minimize(loss, [fresh], Training(**settings), seed=3)
    assert torch.equal(fresh, weight)
    assert resumed.losses == unbroken.losses
    assert record.curves["train"]["loss"] and not list(tmp_path.glob(".*checkpoint"))


def test_a_checkpoint_of_another_model_is_not_taken(tmp_path, caplog):
    small, _, loss = problem(2)
    interrupt(tmp_path, loss, [small])
    large, _, loss = problem(3)
    with recording(tmp_path, "train", params={}):
        history = minimize(loss, [large], FIVE, seed=0)
    assert len(history.losses) == 5 and "another model" in caplog.text


def test_a_checkpoint_with_other_companions_is_not_taken(tmp_path, caplog):
    weight, _, loss = problem()
    interrupt(tmp_path, loss, [weight])
    fresh, _, loss = problem()
    with recording(tmp_path, "train", params={}):
        history = minimize(loss, [fresh], FIVE, seed=0, companions=[nn.Linear(1, 1)])
    again, _, loss = problem()
    assert history.losses == minimize(loss, [again], FIVE, seed=0).losses
    assert "another model" in caplog.text


def test_a_checkpoint_of_other_parameters_is_not_taken(tmp_path):
    first, _, loss = problem()
    interrupt(tmp_path, loss, [first], params={"lr": 0.1})
    assert len(list(tmp_path.glob(".*.checkpoint"))) == 1
    second, _, loss = problem()
    with recording(tmp_path, "train", params={"lr": 0.2}):
        minimize(loss, [second], Training(steps=5, lr=0.2), seed=0)
    third, _, loss = problem()
    minimize(loss, [third], Training(steps=5, lr=0.2), seed=0)
    assert torch.equal(second, third)
    assert not list(tmp_path.glob(".*.checkpoint"))


def test_half_precision_and_infinite_losses_are_refused():
    half = nn.Parameter(torch.zeros(2, dtype=torch.bfloat16))
    with pytest.raises(ValueError, match="must be float32"):
        minimize(lambda step, g: half.sum(), [half], ONE, seed=0)
    weight, _, _ = problem()
    with pytest.raises(FloatingPointError, match="nan at step 0"):
        minimize(lambda step, g: weight.sum() * float("nan"), [weight], ONE, seed=0)


def test_gradients_that_vanish_in_float16_are_scaled(backbone):
    """Of a loss so small that float16 rounds every gradient of the network's output to 0, on any kernel."""
    weights, loss = small_loss(backbone)
    (exact,) = torch.autograd.grad(loss(0, None), weights.parameters())
    for part in backbone.modules().values():
        part.half()
    steps = {}
    for half in (False, True):
        weights, loss = small_loss(backbone)
        (before,) = [value.detach().clone() for value in weights.parameters()]
        training = Training(steps=1, lr=0.1, eps=1e-30, betas=(0.0, 0.0))
        minimize(loss, weights.parameters(), training, seed=0, companions=[LossScale(half)])
        steps[half] = before - next(weights.parameters()).detach()
    assert backbone.through_float16 and not steps[False].any()
    clear = exact.abs() > 0.05 * exact.abs().max()  # the others' signs may be lost in rounding
    assert torch.equal(steps[True].sign()[clear], exact.sign()[clear])


def small_loss(backbone):
    """The weights of a query, and a loss whose gradient by each output is below half of float16's smallest number."""
    backbone = copy.deepcopy(backbone)
    prompts = backbone.encode(["a red circle", "a blue square"])
    state = State(backbone.noise([0, 1]), torch.full((2,), 500), step=1)
    weights = Weights.copy(backbone, backbone.weights("cross_attn")[:1])
    output = backbone.predict(state, prompts).detach()
    factor = 2.0**-26 * output.numel() / (2 * float(output.abs().max()))

    def loss(step, generator):
        with weights.attach(backbone):
            return factor * backbone.predict(state, prompts).float().square().mean()

    return weights, loss


def test_a_scale_changes_no_float32_run_and_leaves_out_steps_that_overflow():
    made = []
    for half in (False, True):
        weight, _, loss = problem()
        minimize(loss, [weight], Training(steps=20, lr=0.1), seed=0, companions=[LossScale(half)])
        made.append(weight.detach())
    assert torch.equal(*made)
    weight, scale = nn.Parameter(torch.zeros(1)), LossScale(True, patience=2)
    weight.grad = torch.tensor([float("inf")])
    assert not scale.unscaled([weight]) and scale.factor == 2.0**15
    for _ in range(2):
        weight.grad = torch.tensor([2.0**15])
        assert scale.unscaled([weight]) and weight.grad.item() == 1.0
    assert scale.factor == 2.0**16


def test_an_adversary_finds_a_scale_or_says_that_there_is_none():
    tensor = torch.ones(3, requires_grad=True)

    def small(factor):
        return (1e-8 * (factor * tensor).half().float()).sum()

    assert gradients(small(1.0), [tensor])[0].abs().max() == 0
    assert torch.allclose(gradients(small(1.0), [tensor], through_float16=True)[0], torch.full((3,), 1e-8), rtol=1e-3)
    assert torch.allclose(gradients(small(2e4), [tensor], through_float16=True)[0], torch.full((3,), 2e-4), rtol=1e-2)
    with pytest.raises(FloatingPointError, match="overflow in float16"):
        gradients(1e5 * tensor.half().float().sum(), [tensor], through_float16=True)


def test_accumulated_gradients_average_their_parts():
    weight = nn.Parameter(torch.zeros(1))
    parts = [1.0, 3.0]
    seen = []

    def loss(step, g):
        seen.append(step)
        return weight.sum() * parts[len(seen) - 1]

    history = minimize(loss, [weight], Training(steps=1, lr=0.5, optimizer="adam", accumulate=2), seed=0)
    assert seen == [0, 0] and history.losses == [0.0]
    assert weight.item() == pytest.approx(-0.5)


def test_schedules_start_and_end_where_they_should():
    cosine = Training(steps=100, lr=1.0, warmup=10, schedule="cosine")
    assert cosine.rate(0) == pytest.approx(0.1)
    assert cosine.rate(10) == pytest.approx(1.0)
    assert cosine.rate(100) == pytest.approx(0.0, abs=1e-9)
    assert replace(cosine, schedule="linear").rate(55) == pytest.approx(0.5)
    assert replace(cosine, warmup=0, schedule="constant").rate(99) == 1.0
