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
from stages.training.minimize import minimize

RECELER = Receler(rank=2, localise=0.0, states="frozen", slots=2, inner=2)


@pytest.mark.parametrize(
    ("method", "module"),
    [
        (ESD(states="frozen", preserve=1.0), "esd"),
        (ConceptAblation(states="trajectory", prior=0.0), "concept_ablation"),
        (T2VUnlearning(rank=2, localise=0.0, states="trajectory"), "t2vunlearning"),
        (RECELER, "receler"),
        (CircuitBreaker(rank=2, watched=0), "circuit_breaker"),
    ],
    ids=["esd", "concept_ablation", "t2vunlearning", "receler", "circuit_breaker"],
)
def test_a_step_may_take_the_mean_of_several_batches(backbone, concept, method, module, monkeypatch):
    steps, seeds = [], []

    def noting(loss, *args, **kwargs):
        def noted(step, draws):
            steps.append(step)
            seeds.append(draws.initial_seed())
            return loss(step, draws)

        return minimize(noted, *args, **kwargs)

    monkeypatch.setattr(f"stages.methods.{module}.minimize", noting)
    method = dataclasses.replace(method, steps=2, batch=1, lr=1e-2, accumulate=3)
    first, again = (method.fit(backbone, concept, seed=0).tensors() for _ in range(2))
    assert steps == 2 * [0, 0, 0, 1, 1, 1] and len(set(seeds)) == 6
    plain = dataclasses.replace(method, accumulate=1).fit(backbone, concept, seed=0).tensors()
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert any(not torch.equal(value, plain[name]) for name, value in first.items())


def test_an_adversary_of_several_batches_resumes_where_it_was(backbone, concept, tmp_path, monkeypatch):
    method = dataclasses.replace(RECELER, steps=4, batch=1, lr=1e-2, accumulate=2)
    whole = method.fit(backbone, concept, seed=0).tensors()
    steps = []

    def stopping(loss, *args, **kwargs):
        def checked(step, draws):
            steps.append(step)
            if len(steps) == 6:  # between the two batches of a step
                raise KeyboardInterrupt
            return loss(step, draws)

        return minimize(checked, *args, **kwargs)

    monkeypatch.setattr("stages.training.progress.EVERY", 0)
    monkeypatch.setattr("stages.methods.receler.minimize", stopping)
    with pytest.raises(KeyboardInterrupt), recording(tmp_path, "train", params={}):
        method.fit(backbone, concept, seed=0)
    with recording(tmp_path, "train", params={}):
        again = method.fit(backbone, concept, seed=0).tensors()
    assert steps == [0, 0, 1, 1, 2, 2, 2, 2, 3, 3]
    assert all(torch.equal(again[name], value) for name, value in whole.items())
