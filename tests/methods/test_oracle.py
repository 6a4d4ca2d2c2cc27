"""The oracle takes the twin that was never shown the concept, and trains one only where there is none."""

from dataclasses import replace

import pytest
import torch

from stages.backbones import load_settings
from stages.backbones.core.blueprint import Blueprint
from stages.methods import oracle as oracles
from stages.methods.oracle import Oracle
from stages.params.concept import load_concept
from stages.worlds.autoencoder import make_autoencoder
from stages.worlds.words import make_tokenizer

RED, CIRCLE = load_concept("red"), load_concept("circle")


@pytest.fixture
def made(monkeypatch):
    """Backbones by the seed of their weights, made instead of loaded (1) or trained (2)."""
    cls, settings = load_settings("sd-shapes")
    asked = []

    def make(seed, what):
        asked.append(what)
        return cls.create("sd-shapes", settings, make_tokenizer(), make_autoencoder(0), seed)

    monkeypatch.setattr(oracles, "load_backbone", lambda name: make(1, name))
    monkeypatch.setattr(oracles, "trained", lambda plan, concept, seed: make(2, concept.name))
    monkeypatch.setattr(oracles, "twin", lambda oracle, concept: oracle if oracle and concept is RED else None)
    return Blueprint("sd-shapes", cls, replace(settings, oracle="a-twin")), asked, make


@pytest.mark.parametrize(("concept", "seed", "what"), [(RED, 1, "a-twin"), (CIRCLE, 2, "circle")])
def test_its_weights_are_those_of_the_twin_or_of_one_that_is_trained(made, concept, seed, what):
    plan, asked, make = made
    values = dict(Oracle().fit(plan, concept, seed=0).items())
    assert asked == [what]
    twin = make(seed, "")
    own = dict(twin.net.named_parameters())
    for part, text in twin.texts.encoders().items():
        own |= {f"{part}.{name}": p for name, p in text.named_parameters()}
    assert values.keys() == own.keys() and all(torch.equal(value, own[name]) for name, value in values.items())
