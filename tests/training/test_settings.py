"""The settings of a loop as one value: methods inherit them, files may set each of them, and each has an effect."""

import dataclasses
import inspect

import pytest
import torch
from torch import nn

from stages.methods import load_method
from stages.params import build, names
from stages.params.source import class_fields
from stages.training.minimize import minimize
from stages.training.progress import Average
from stages.training.settings import Training

OWN = {field.name for field in dataclasses.fields(Training)}
TRAINED = sorted({load_method(name, "tiny").__class__ for name in names("methods")}, key=lambda cls: cls.__name__)
TRAINED = [cls for cls in TRAINED if issubclass(cls, Training)]


def ended(**settings):
    """A weight after three noisy steps."""
    weight = nn.Parameter(torch.ones(3))

    def loss(step, generator):
        return (weight * torch.randn(3, generator=generator)).square().sum()

    minimize(loss, [weight], Training(**{"steps": 3, "lr": 0.1} | settings), seed=0)
    return weight.detach()


def test_the_loop_takes_at_most_six_parameters():
    assert len(inspect.signature(minimize).parameters) <= 6


@pytest.mark.parametrize("cls", TRAINED, ids=lambda cls: cls.__name__)
def test_a_method_that_trains_has_all_settings_of_the_loop(cls):
    path = f"{cls.__module__}.{cls.__qualname__}"
    assert set(class_fields(path, "here")) >= OWN
    method = build({"class": path, "clip": 0.5, "accumulate": 3, "optimizer": "adam", "schedule": "linear"}, "here")
    assert (method.clip, method.accumulate, method.optimizer, method.rate(0)) == (0.5, 3, "adam", 1.0)
    with pytest.raises(ValueError, match="here: schedule"):
        build({"class": path, "schedule": "sine"}, "here")


def test_the_methods_that_train_are_found():
    assert {"ESD", "Receler", "CircuitBreaker", "Minimalist", "TextualInversion"} <= {cls.__name__ for cls in TRAINED}


@pytest.mark.parametrize(
    "setting",
    [
        {"schedule": "cosine"},
        {"schedule": "linear"},
        {"warmup": 2},
        {"accumulate": 2},
        {"weight_decay": 1.0},
        {"clip": 1e-3, "eps": 1e-2},
        {"betas": (0.1, 0.2)},
        {"eps": 1.0},
        {"ema": 0.9},
        {"optimizer": "adam", "weight_decay": 1.0},
    ],
    ids=str,
)
def test_every_setting_changes_the_result(setting):
    plain = ended(**{key: value for key, value in setting.items() if key == "eps" and "clip" in setting})
    assert not torch.equal(ended(**setting), plain)


def test_an_average_is_what_the_result_has():
    weight = nn.Parameter(torch.zeros(1))
    average = Average([weight], 0.5)
    wanted = torch.zeros(1)
    for step in range(8):
        weight.data += 1
        average.follow(step)
        decay = min(0.5, (1 + step) / (10 + step))
        wanted = decay * wanted + (1 - decay) * (step + 1)
    torch.testing.assert_close(average.values[0], wanted)


def test_settings_are_a_value():
    training = Training(steps=1, lr=0.1)
    assert training == Training(steps=1, lr=0.1) and hash(training) == hash(Training(steps=1, lr=0.1))
    with pytest.raises(dataclasses.FrozenInstanceError):
        training.steps = 2
