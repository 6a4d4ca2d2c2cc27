"""A step of several batches: each batch has draws of its own, and the adversary and the record follow."""

import dataclasses

import pytest
import torch

from stages.methods.circuit_breaker import CircuitBreaker
from stages.methods.concept_ablation import ConceptAblation
from stages.methods.esd import ESD
from stages.methods.receler import Receler
from stages.methods.t2vunlearning import T2VUnlearning
from stages.store.record import recording
from tests.methods.interrupted import interrupted

RECELER = Receler(rank=2, localise=0.0, states="frozen", slots=2, inner=2)
METHODS = {
    "esd": ESD(states="frozen", preserve=1.0),
    "concept_ablation": ConceptAblation(states="trajectory", prior=0.0),
    "t2vunlearning": T2VUnlearning(rank=2, localise=0.0, states="trajectory"),
    "receler": RECELER,
    "circuit_breaker": CircuitBreaker(rank=2, watched=0),
}


@pytest.mark.parametrize("name", METHODS)
def test_a_step_may_take_several_batches(backbone, concept, name):
    method = dataclasses.replace(METHODS[name], steps=2, batch=1, lr=1e-2, accumulate=3)
    first, again = (method.fit(backbone, concept, seed=0).tensors() for _ in range(2))
    plain = dataclasses.replace(method, accumulate=1).fit(backbone, concept, seed=0).tensors()
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert any(not torch.equal(value, plain[name]) for name, value in first.items())


@pytest.mark.parametrize("name", [name for name in METHODS if name != "circuit_breaker"])  # whose weights follow steps
def test_a_steps_loss_is_the_mean_of_those_of_its_batches(backbone, concept, name, tmp_path):
    """The batches of steps that change next to nothing are those of a single step."""
    losses = []
    for steps, accumulate in ((3, 1), (1, 3)):
        method = dataclasses.replace(METHODS[name], steps=steps, batch=1, lr=1e-12, accumulate=accumulate)
        with recording(tmp_path / f"{steps}", "train", params={}) as record:
            method.fit(backbone, concept, seed=0)
        (curve,) = record.curves.values()
        losses.append(curve["loss"])
    assert len(set(losses[0])) == 3 and losses[1] == pytest.approx([sum(losses[0]) / 3], abs=2e-6)


def test_an_adversary_of_several_batches_resumes_where_it_was(backbone, concept, tmp_path):
    method = dataclasses.replace(RECELER, steps=4, batch=1, lr=1e-2, accumulate=2)
    whole = method.fit(backbone, concept, seed=0).tensors()
    again = interrupted(method, backbone, concept, tmp_path, share=0.6)
    assert all(torch.equal(again[name], value) for name, value in whole.items())
