"""Every family of tests/backbones/families.py as a fixture, made once."""

import pytest
import torch

from stages.backbones.core.base import State
from tests.backbones.families import FAMILIES

PROMPTS = ["a red circle", "a blue square"]


@pytest.fixture(scope="session")
def made():
    """Backbones by family, made when first asked for; tests leave them as they were, and some test just that."""
    known = {}

    def make(name):
        if name not in known:
            known[name] = FAMILIES[name].make()
        return known[name]

    return make


@pytest.fixture
def query():
    """A state and a condition for a backbone, at a time in the middle of its schedule."""

    def ask(backbone, prompts=PROMPTS):
        latent = backbone.noise(range(len(prompts)))
        return State(latent, torch.full((len(prompts),), 500), step=1), backbone.encode(prompts)

    return ask
