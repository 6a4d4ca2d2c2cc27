"""The distance to the frozen network: its closed form, no draw without a weight, refusals."""

import functools

import pytest
import torch

from stages.interventions import Identity
from stages.interventions.weights import Weights
from stages.methods.shared.base import frozen
from stages.methods.shared.preservation import Preservation
from stages.seeds import Purpose, generator

step_generator = functools.partial(generator, Purpose.STEP)


def moved(backbone):
    weights = Weights.copy(backbone, backbone.weights("cross_attn"))
    for value in weights.parameters():
        value.data += 0.1
    return weights


def test_it_is_the_weighted_distance_at_a_random_state_of_random_prompts(backbone, concept):
    weights = moved(backbone)
    preservation = Preservation.of(backbone, concept, 2.5, 3, seed=0)
    assert preservation.prompts.condition.prompts == (*concept.retain, "", "", "")
    value = preservation(weights, 2, step_generator(0, 1))
    draws = step_generator(0, 1)
    condition = preservation.prompts.draw(2, draws)
    state = backbone.draw(condition, draws)
    before = frozen(backbone, state, condition)
    with weights.attach(backbone):
        after = frozen(backbone, state, condition)
    assert float(value.detach()) == pytest.approx(2.5 * float(backbone.distance(after, before)))
    value.backward()
    assert all(parameter.grad is not None for parameter in weights.parameters())
    assert float(preservation(Identity(), 2, step_generator(0, 1))) == 0


def test_nothing_is_gathered_or_drawn_without_a_weight(backbone, concept):
    draws, before = step_generator(0, 0), step_generator(0, 0).get_state()
    assert Preservation.of(backbone, concept, 0.0, 0, seed=0)(moved(backbone), 2, draws) == 0.0
    assert torch.equal(draws.get_state(), before)
    assert not set(concept.retain) & set(backbone.trajectories.pools)


def test_the_empty_prompt_needs_a_weight(backbone, concept):
    with pytest.raises(ValueError, match="empty counts .* set preserve"):
        Preservation.of(backbone, concept, 0.0, 1, seed=0)
