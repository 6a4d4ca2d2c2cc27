"""A network reads settings.batch rows at a time, twice that when guided, and no result depends on it.

So do encoders, but for those that wait elsewhere, which read more prompts at a turn.
"""

from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from stages.interventions.base import Identity
from stages.methods.binarized import measure
from stages.methods.flowedit import FlowEdit
from stages.methods.minimalist import edited, references
from stages.methods.shared import text_inputs
from stages.params.concept import Concept
from tests.backbones import tiny_infinity
from tests.backbones.families import FAMILIES

WORDS = ["a red circle", "a shape", "", "a photo of a blue square", "the small green cross"]
RED = Concept("red", ("a red circle", "a red cross"), ("a circle", "a cross"), ("a blue circle",))


def make(name, **settings):
    return tiny_infinity.make(**settings) if name == "infinity" else FAMILIES[name].make(**settings)


@contextmanager
def calls(backbone):
    """How many rows each call of the network has."""
    sizes = []
    forward = backbone.net.register_forward_pre_hook(
        lambda _, args, kwargs: sizes.append(len(args[0] if args else kwargs["hidden_states"])), with_kwargs=True
    )
    try:
        yield sizes
    finally:
        forward.remove()


@pytest.mark.parametrize("name", ["unet", "xl", "sd3", "flux-dev", "pixart", "cogvideox-2b", "wan", "infinity"])
def test_what_weights_read_is_found_by_so_many_prompts_at_a_time(name):
    backbone, found = make(name), []
    names = backbone.addresses.readers()
    backbone.encode(WORDS)
    if name == "infinity":
        backbone.gather(WORDS, 0)
    for batch in (2, 100):
        backbone.settings = replace(backbone.settings, batch=batch)
        with calls(backbone) as sizes:
            found.append(text_inputs.text_inputs(backbone, names, WORDS))
        parts = [2, 2, 1] if batch == 2 else [5]
        assert sizes in ([1], [1, *parts])  # one prompt tells whether the network hands on its condition
    for few, all_at_once in zip(*(each.values() for each in found), strict=True):
        assert len(few) == len(all_at_once) == 5
        for a, b in zip(few, all_at_once, strict=True):  # what pads a batch to its longest prompt is zeros
            assert a.shape[1:] == b.shape[1:] and not b[len(a) :].any()
            torch.testing.assert_close(a, b[: len(a)], rtol=1e-5, atol=1e-6)


def test_reference_runs_are_made_by_so_many_seeds_at_a_time():
    backbone, found = FAMILIES["xl-turbo"].make(), []
    for batch in (2, 100):
        backbone.settings = replace(backbone.settings, batch=batch)
        with calls(backbone) as sizes:
            found.append(references(backbone, ["a red circle"], 5, 3, seed=1)["a red circle"])
        assert set(sizes) == ({4, 2} if batch == 2 else {10})  # guided: twice the rows
    assert found[0].seeds == found[1].seeds
    torch.testing.assert_close(found[0].latents, found[1].latents, rtol=1e-3, atol=1e-3)


def test_edited_targets_are_made_by_so_many_seeds_at_a_time():
    backbone, found = FAMILIES["flux-schnell"].make(), []
    edits = FlowEdit(first=50).fit(backbone, RED, seed=0)
    runs = references(backbone, ["a red circle"], 5, 3, seed=1)["a red circle"]
    for batch in (2, 100):
        backbone.settings = replace(backbone.settings, batch=batch)
        with calls(backbone) as sizes:
            found.append(edited(backbone, edits, "a red circle", "a circle", runs))
        assert max(sizes) == (4 if batch == 2 else 10)
        assert torch.equal(found[-1].latents[:, 0], runs.latents[:, 0]) and found[-1].seeds == runs.seeds
    torch.testing.assert_close(found[0].latents, found[1].latents, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(found[0].latents[:, 1], runs.latents[:, 1], atol=1e-2)


def test_the_distance_of_binary_masks_is_measured_by_so_many_pairs_at_a_time():
    backbone, found = FAMILIES["xl-turbo"].make(pool=3), []
    for batch in (4, 100):
        backbone.settings = replace(backbone.settings, batch=batch)
        distance = measure(backbone, RED, 3, 0)
        with calls(backbone) as sizes:
            found.append(distance(Identity()))
        assert set(sizes) == ({8, 4} if batch == 4 else {12})
    assert found[0] == pytest.approx(found[1], rel=1e-4) and found[0] > 1e-3


@pytest.mark.parametrize("name", ["unet", "xl", "sd3", "flux-dev", "pixart", "sana", "cogvideox-2b", "wan", "infinity"])
def test_prompts_are_encoded_by_so_many_at_a_time_and_each_as_if_alone(name):
    backbone, sizes = make(name, batch=2), []
    first = next(iter(backbone.texts.encoders().values()))
    first.register_forward_pre_hook(
        lambda _, args, kwargs: sizes.append(len(args[0] if args else kwargs["input_ids"])), with_kwargs=True
    )
    found = backbone.encode([*WORDS, WORDS[0]]).tensors
    assert sum(sizes) == 5 and max(sizes) <= 2
    for part, value in make(name, batch=100).encode(WORDS).tensors.items():
        assert found[part].shape[1:] == value.shape[1:] and found[part].dtype == value.dtype
        torch.testing.assert_close(found[part][:5].float(), value.float(), rtol=1e-5, atol=1e-5)
        assert torch.equal(found[part][5], found[part][0])


def test_encoders_that_wait_are_not_brought_for_every_few_prompts(monkeypatch):
    backbone, moved, to = FAMILIES["unet"].make(batch=2, offload="parts"), [], nn.Module.to
    encoder, many = (
        backbone.texts.encoders()["text_encoder"],
        [f"{'red ' * i}circle {word}" for i in range(8) for word in WORDS],
    )
    monkeypatch.setattr(
        nn.Module, "to", lambda self, *a, **k: (self is encoder and moved.append(a)) or to(self, *a, **k)
    )
    backbone.encode(many)
    assert len(many) == 40 and len(moved) == 4  # to work and back, for 32 prompts and for 8


class Away(Tensor):
    """Numbers of an accelerator: `cpu` alone brings them home."""

    def cpu(self):
        return self.as_subclass(Tensor)


def test_trajectories_are_kept_where_there_is_room_for_them(monkeypatch):
    backbone = FAMILIES["flux-schnell"].make(pool=3, batch=2)
    walk = backbone.walk
    monkeypatch.setattr(
        backbone,
        "walk",
        lambda *a, **k: (replace(state, latent=state.latent.as_subclass(Away)) for state in walk(*a, **k)),
    )
    backbone.gather(WORDS[:1], 0)
    pool = backbone.trajectories.pools[WORDS[0]]
    assert type(pool) is Tensor and len(pool) == 3
    row = backbone.trajectories.draw(WORDS[:1], torch.Generator(), [1, -1])[0]
    assert any(torch.equal(row, run[[1, -1]]) for run in pool)
    condition, backbone.home = backbone.encode(WORDS[:1]), torch.device("meta")  # where the network works
    state = backbone.draw(condition, torch.Generator())
    assert state.latent.is_meta and state.final.is_meta and state.time.is_meta
    assert references(backbone, WORDS[:1], 2, 4, seed=0)[WORDS[0]].latents.is_meta


def test_bits_are_kept_where_there_is_room_for_them(monkeypatch):
    backbone = tiny_infinity.make(pool=3, batch=2)
    sample = backbone._bits

    def away(*args):
        made = sample(*args)
        return replace(made, bits=[one.as_subclass(Away) for one in made.bits])

    monkeypatch.setattr(backbone, "_bits", away)
    backbone.gather(WORDS[:1], 0)
    pool = backbone.trajectories.pools[WORDS[0]]
    assert type(pool) is Tensor and len(pool) == 3 and pool.dtype == torch.uint8
