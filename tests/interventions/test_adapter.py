"""Adapters: the identity at first, float32 over any base, sizes of the real video models, masks of the right tokens."""

import functools
from types import SimpleNamespace

import pytest
import torch
from diffusers import CogVideoXTransformer3DModel

from stages.backbones.text.texts import Texts
from stages.control.addresses import Addresses
from stages.control.sites import Site, Tap
from stages.interventions import load, save
from stages.interventions.adapter import Adapter, Bottleneck, width
from stages.methods.t2vunlearning import T2VUnlearning
from stages.reading.concept_masks import concept_tokens
from stages.seeds import Purpose, generator

step_generator = functools.partial(generator, Purpose.STEP)

CALL = {"seeds": [1, 2], "steps": 3, "guidance": 3.0}
VIDEO = {  # blocks, heads and what the adapters of rank 128 come to, of CogVideoX 2B and 5B
    "2B": ({"num_layers": 30, "num_attention_heads": 30}, 14_807_040),
    "5B": ({"num_layers": 42, "num_attention_heads": 48, "use_rotary_positional_embeddings": True}, 33_164_544),
}


def fresh(backbone, rank=3, kinds=("cross_attn", "attn")):
    return Adapter.fresh(backbone, backbone.select(*kinds, stream="image"), rank, seed=0)


def filled(adapter):
    """The adapter with every weight drawn at random."""
    draw = torch.Generator().manual_seed(1)
    for parameter in adapter.parameters():
        parameter.data.normal_(0, 0.3, generator=draw)
    return adapter


@pytest.mark.parametrize("kinds", [("cross_attn",), ("attn",), ("ff",)])
def test_a_fresh_adapter_changes_no_bit(backbone, kinds):
    condition = backbone.encode(["a red circle", ""])
    plain = backbone.sample(condition, **CALL)
    adapter = fresh(backbone, kinds=kinds)
    with adapter.attach(backbone):
        assert torch.equal(backbone.sample(condition, **CALL), plain)
    with filled(adapter).attach(backbone):
        assert not torch.equal(backbone.sample(condition, **CALL), plain)
    adapter.strength = 0.0
    with adapter.attach(backbone):
        assert torch.equal(backbone.sample(condition, **CALL), plain)


def test_saved_and_loaded_it_samples_the_same(backbone, tmp_path):
    condition = backbone.encode(["a red circle", "a blue square"])
    adapter = filled(fresh(backbone))
    with adapter.attach(backbone):
        edited = backbone.sample(condition, **CALL)
    save(adapter, tmp_path)
    with load(tmp_path).attach(backbone):
        assert torch.equal(backbone.sample(condition, **CALL), edited)


def test_a_missing_weight_is_named(backbone):
    adapter = fresh(backbone)
    tensors = adapter.tensors()
    name = next(iter(tensors))
    with pytest.raises(ValueError, match=name):
        Adapter.restore({n: t for n, t in tensors.items() if n != name}, adapter.spec())


@pytest.mark.parametrize("name", VIDEO)
def test_parameters_of_the_real_video_models(name):
    config, count = VIDEO[name]
    with torch.device("meta"):
        net = CogVideoXTransformer3DModel(**config)
        sites = {Site(i, "attn"): Tap(f"transformer_blocks.{i}.attn1", item=0) for i in range(config["num_layers"])}
        backbone = SimpleNamespace(net=net, name=name, addresses=Addresses(name, net, sites, Texts(name)))
        layers = [Bottleneck.fresh(width(backbone, site), 128) for site in sites]
    assert sum(p.numel() for layer in layers for p in layer.parameters()) == count


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_weights_move_and_stay_finite_over_any_base(backbone, concept, dtype):
    backbone.gather([*concept.prompts, *concept.retain], 0)
    backbone.net.to(dtype)
    backbone.trajectories.pools = {name: pool.to(dtype) for name, pool in backbone.trajectories.pools.items()}
    rows = backbone.encoded.rows.items()
    backbone.encoded.rows = {p: {n: t.to(dtype) for n, t in row.items()} for p, row in rows}
    adapter = T2VUnlearning(rank=2, steps=20, batch=1, lr=1e-3, preserve=0.5, states="trajectory").fit(
        backbone, concept, seed=0
    )
    start = Adapter.fresh(backbone, adapter.places, 2, seed=0)
    for (name, after), before in zip(adapter.tensors().items(), start.tensors().values(), strict=True):
        assert after.dtype == torch.float32 and torch.isfinite(after).all(), name
        assert not torch.equal(after, before), name
    state = backbone.draw(backbone.encode(concept.prompts), step_generator(0, 0))
    with torch.no_grad(), adapter.attach(backbone):
        prediction = backbone.predict(state, backbone.encode(concept.prompts))
    assert prediction.dtype == dtype and torch.isfinite(prediction).all()


def test_gradients_reach_the_adapter_alone(backbone, concept):
    method = T2VUnlearning(rank=2, batch=2, states="trajectory")
    backbone.gather(concept.prompts, 0)
    condition, empty = backbone.encode(concept.prompts), backbone.encode([""]).repeat(2)
    positions = concept_tokens(backbone, concept.prompts, concept.called())
    state = backbone.draw(condition, step_generator(0, 1))
    adapter = filled(fresh(backbone))
    method.unlearning(backbone, adapter, state, condition, empty, positions).backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in adapter.parameters())
    assert all(p.grad is None for p in backbone.net.parameters())


def test_what_is_added_is_traced_while_asked_for(backbone, concept):
    adapter, condition = filled(fresh(backbone)), backbone.encode(concept.prompts)
    backbone.gather(concept.prompts, 0)
    state = backbone.draw(condition, step_generator(0, 0))
    with torch.no_grad(), adapter.attach(backbone), adapter.traced() as added:
        backbone.predict(state, condition)
    assert list(added) == adapter.places
    with torch.no_grad(), adapter.attach(backbone):
        backbone.predict(state, condition)
    assert len(added) == len(adapter.places)
