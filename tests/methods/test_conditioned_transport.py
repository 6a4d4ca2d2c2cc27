"""Conditioned transport trains every map alone, moves text and image, and keeps the activations that it learns from."""

from dataclasses import replace

import pytest
import torch

from stages.methods import conditioned_transport, load_method
from stages.methods.conditioned_transport import ConditionedTransport
from tests.backbones.tiny_infinity import make

SMALL = ConditionedTransport(samples=4, batch=2, steps=6, hidden=8, gate="none")


def pairs(scale=1.0, seed=0):
    draws = torch.Generator().manual_seed(seed)
    return tuple(scale * torch.randn(8, 5, generator=draws) for _ in range(2))


def test_a_map_is_the_same_whatever_other_maps_there_are():
    """Gradients of a neighbour, a thousand times as large, take no part in the clipping."""
    alone = SMALL.train({"one": pairs()}, seed=0)["one"].state_dict()
    beside = SMALL.train({"one": pairs(), "large": pairs(1000.0, 1)}, seed=0)["one"].state_dict()
    assert all(torch.equal(value, beside[name]) for name, value in alone.items())
    assert alone["model.4.weight"].abs().sum() > 0


def test_every_pass_takes_every_pair_once(monkeypatch):
    seen = []

    def minimize(loss, parameters, training, **options):
        for step in range(8):
            loss(step, torch.Generator())

    class Rows(torch.nn.Module):
        def forward(self, x):
            seen.append(x[:, 0].tolist())
            return x

    monkeypatch.setattr(conditioned_transport, "minimize", minimize)
    source = torch.arange(8.0)[:, None]
    SMALL._train(Rows(), source, source, 0, "label")
    assert [sorted(sum(seen[first : first + 4], [])) for first in (0, 4)] == [source[:, 0].tolist()] * 2
    assert seen[:4] != seen[4:]


def test_a_plateau_ends_the_training_of_a_map():
    source, target = torch.zeros(8, 5), torch.zeros(8, 5)
    method = replace(SMALL, steps=2000, patience=2, weight_decay=0.0)
    with pytest.MonkeyPatch.context() as patch:
        losses = []
        plain = conditioned_transport.minimize
        patch.setattr(
            conditioned_transport, "minimize", lambda *given, **options: losses.append(plain(*given, **options).losses)
        )
        method.train({"flat": (source, target)}, seed=0)
    assert len(losses[0]) == 4 * 3  # passes of four batches: the first, and two that are no better


def test_text_and_image_are_moved_and_no_more_is_kept_than_is_learned_from(concept, monkeypatch):
    backbone, pools = make(steps=4), []
    plain = conditioned_transport.activations
    monkeypatch.setattr(
        conditioned_transport,
        "activations",
        lambda *given, **options: pools.append(plain(*given, **options)) or pools[-1],
    )
    method = replace(SMALL, layers=(0,), text_layers=(0,), steps_on=(1, 2))
    steering = method.fit(backbone, concept, seed=0)
    text, image = next(iter(backbone.addresses.text_sites)), backbone.select("ff", stream="image")[0]
    assert set(steering.maps) == {(text, 0), (image, 1), (image, 2)}
    for pool in pools:
        assert pool.steps(image) == [1, 2] and pool.steps(text) == [0]
        assert pool.steps(image, "uncond") == []
    with pytest.raises(ValueError, match="text_layers: tiny.* has 1 there, numbered from 0, got .7."):
        replace(method, text_layers=(7,)).fit(backbone, concept, seed=0)
    with pytest.raises(ValueError, match="with location: text name them in layers"):
        replace(method, location="text").fit(backbone, concept, seed=0)


def test_the_preset_is_the_release():
    method = load_method("conditioned_transport", "infinity-2b")
    assert method.text_layers == (20, 21, 22, 23) and method.layers == tuple(range(16, 32))
    assert (method.steps_on, method.patience, method.clip, method.optimizer) == ((3, 4, 5), 50, 1.0, "adam")
    assert method.steps == 1000 * (method.samples // method.batch)
