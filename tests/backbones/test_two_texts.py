"""Methods where a condition has more than one text: pooled embeddings beside tokens, flows with noise of their own."""

import pytest
import torch

from stages.attacks.ring_a_bell import RingABell
from stages.concept import Concept
from stages.interventions import resample
from stages.methods.flowedit import FlowEdit
from stages.methods.rece import RECE, alike
from stages.methods.uce import gather_rows

RED = Concept("red", ("a red circle",), ("a circle",), ("a blue circle",))


def test_rece_searches_pooled_text_and_tokens_apart_though_they_are_as_wide(made):
    backbone, method = made("sd3"), RECE(rounds=1, preserve=0.0)
    names = backbone.readers()
    widths = {backbone.parameter(name).shape[1] for name in names}
    assert len(names) > 1 and len(widths) == 1
    edits, _ = gather_rows(backbone, names, RED, "range")
    original = {name: backbone.parameter(name).double() for name in names}
    found = method.search({name: 0.5 * value for name, value in original.items()}, original, edits)
    for name in names:
        assert [rows.shape for rows, _ in found[name]] == [rows.shape for rows, _ in edits[name]]
    assert alike(edits) == [[name] for name in names]


def test_weights_that_read_the_same_are_searched_together(made):
    names = made("unet").readers()
    edits, _ = gather_rows(made("unet"), names, RED, "range")
    assert len(names) > 1 and alike(edits) == [names]


@pytest.mark.parametrize("name", ["unet", "xl", "sd3", "flux-schnell"])
def test_ring_a_bell_compares_every_token_of_the_encoding(made, name, monkeypatch):
    targets = []
    monkeypatch.setattr(
        RingABell, "evolve", lambda self, encode, target, tokens, frame, draws: targets.append(target) or (frame, 0.0)
    )
    backbone = made(name)
    RingABell(length=3).search(backbone, RED, seed=0)
    (target,) = targets
    config = backbone.text_encoder.config
    assert target.shape == (config.max_position_embeddings, config.hidden_size)


def test_the_noise_of_editing_is_no_pictures_starting_noise(made, monkeypatch):
    drawn, backbone = [], made("flux-schnell")
    edits = FlowEdit(first=50).fit(backbone, RED, seed=0)
    monkeypatch.setattr(
        resample, "flow_edit", lambda source, pair, single, sigmas, noise, course: drawn.append(noise()) or source
    )
    condition = backbone.encode(["a circle"] * 8)
    for _ in range(2):
        edits.edited(backbone, backbone.noise(range(8)), condition, condition, range(8), 2)
    assert torch.equal(*drawn)
    rows = torch.cat([backbone.noise(range(20)), drawn[0]]).flatten(1)
    apart = torch.cdist(rows, rows) + torch.eye(len(rows))
    assert apart.min() > 0.1
