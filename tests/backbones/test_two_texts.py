"""Methods where a condition has more than one text: pooled embeddings beside tokens, several encoders, own noise."""

import pytest
import torch

from stages.attacks.ring_a_bell import RingABell
from stages.interventions import flowedit as resample
from stages.methods.flowedit import FlowEdit
from stages.methods.rece import RECE, alike
from stages.methods.uce import UCE, gather_rows
from stages.params.concept import Concept
from stages.worlds.words import END, LENGTH, make_tokenizer
from tests.backbones.families import FAMILIES

RED = Concept("red", ("a red circle",), ("a circle",), ("a blue circle",))


def test_rece_searches_pooled_text_and_tokens_apart_though_they_are_as_wide(made):
    backbone, method = made("sd3"), RECE(rounds=1, preserve=0.0)
    names = backbone.addresses.readers()
    widths = {backbone.addresses.parameter(name).shape[1] for name in names}
    assert len(names) > 1 and len(widths) == 1
    edits, _ = gather_rows(backbone, names, RED, "range")
    original = {name: backbone.addresses.parameter(name).double() for name in names}
    found = method.search({name: 0.5 * value for name, value in original.items()}, original, edits)
    for name in names:
        assert [rows.shape for rows, _ in found[name]] == [rows.shape for rows, _ in edits[name]]
    assert alike(edits) == [[name] for name in names]


@pytest.fixture(scope="module")
def unlike():
    """Stable Diffusion 3 whose T5 puts no token before a prompt, as the real ones do not, and reads more of it."""
    from tokenizers import processors

    backbone = FAMILIES["sd3"].make(text_length=LENGTH + 5)
    tokenizer = make_tokenizer()
    end = (END, tokenizer.convert_tokens_to_ids(END))
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(single=f"$A {END}", special_tokens=[end])
    backbone.pipeline.tokenizer_3 = tokenizer
    return backbone


TWINS = {  # positions in CLIP's begin, a, red, circle, end (a circle), and in T5's, which has no begin
    "last": ([3], [2], [2], [1]),
    "range": ([*range(3, 12)], [*range(2, 11)], [*range(2, 17)], [*range(1, 16)]),
    "aligned": (
        [*range(5), *range(5, 12)],
        [0, 1, 1, 2, 3, *range(4, 11)],
        [*range(4), *range(4, 17)],
        [0, 0, 1, 2, *range(3, 16)],
    ),
}


@pytest.mark.parametrize("tokens", TWINS)
def test_each_encoders_tokens_are_paired_among_themselves(unlike, tokens):
    name, first = unlike.addresses.readers()[0], unlike.texts.starts["text_encoder_3"]
    edits, kept = gather_rows(unlike, [name], RED, tokens)
    clip, clip_twin, t5, t5_twin = TWINS[tokens]
    shown, neutral, other = unlike.encode(["a red circle", "a circle", "a blue circle"]).tensors["embeds"]
    ((ours, theirs),) = edits[name]
    assert first == LENGTH and len(shown) == 2 * LENGTH + 5
    assert torch.equal(ours, shown[[*clip, *(first + i for i in t5)]])
    assert torch.equal(theirs, neutral[[*clip_twin, *(first + i for i in t5_twin)]])
    assert torch.equal(torch.cat(kept[name]), other[[3, first + 2]] if tokens == "last" else other)


def test_uce_edits_what_each_encoder_says(unlike):
    name, first = unlike.addresses.readers()[0], unlike.texts.starts["text_encoder_3"]
    old = unlike.addresses.parameter(name).detach().double()
    new = dict(UCE("last", preserve=0.0, ridge=1e-6).fit(unlike, RED, seed=0).items())[name].detach().double()
    shown, neutral = unlike.encode(["a red circle", "a circle"]).tensors["embeds"].double()
    for ours, theirs in ((3, 2), (first + 2, first + 1)):
        torch.testing.assert_close(new @ shown[ours], old @ neutral[theirs], rtol=0, atol=1e-3)
        assert (new @ shown[ours] - old @ shown[ours]).abs().max() > 1e-2


@pytest.mark.parametrize("name", ["sd3", "xl", "flux-dev", "pixart"])
def test_a_long_prompt_has_as_many_tokens_as_its_encoder_reads(name):
    backbone, prompt = FAMILIES[name].make(text_length=LENGTH + 5), "red " * 30
    (ids,) = backbone.texts.tokenize([prompt])
    assert len(ids) == (LENGTH if name in ("sd3", "xl") else LENGTH + 5)
    empty = backbone.encode([""])
    for part in backbone.texts.starts:
        at = backbone.texts.segment(part, empty.tensors["embeds"].shape[1])
        assert len(at.tokenize([prompt])[0]) == at.length


def test_weights_that_read_the_same_are_searched_together(made):
    names = made("unet").addresses.readers()
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
    config = backbone.texts.encoders()["text_encoder"].config
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
