"""AdvUnlearn: a prefix before the words looks for the concept, the erasure holds against it, the rest stays."""

from dataclasses import replace

import pytest
import torch

from stages.interventions.weights import Weights
from stages.methods import load_method
from stages.methods.advunlearn import AdvUnlearn, encoder_weights
from stages.methods.shared.base import frozen, partial, reached
from stages.methods.shared.prefix import Encoded, Words
from stages.methods.shared.preservation import Preservation
from tests.backbones.families import FAMILIES
from tests.methods.interrupted import interrupted

QUICK = AdvUnlearn(train="x", tokens=2, inner=2, attack_lr=0.1, peace=1, batch=2, retain_batch=2, steps=3, lr=0.01)


def read(prefix, text):
    prefix.begin(prefix.reader.tokenizer(text, add_special_tokens=False).input_ids)
    return prefix


@pytest.mark.parametrize("family", ["unet", "xl", "sd3", "flux-dev", "cogvideox-2b", "infinity"])
def test_a_prefix_of_words_is_read_as_these_words_before_the_prompt(made, family):
    backbone = made(family)
    prefix = read(Words(backbone, 2, 0.1, False), "a red")
    with torch.no_grad():
        said, wanted = prefix.before("circle").tensors, backbone.encode(["a red circle"]).tensors
    for name, value in wanted.items():
        torch.testing.assert_close(said[name], value, atol=1e-5, rtol=1e-4)


def test_a_prefix_behind_the_encoders_stands_after_the_first_row(made):
    backbone = made("sana")
    embeds = backbone.encode(["a red circle"]).tensors["embeds"]
    prefix = Encoded(backbone, embeds, 2, 0.1, False)
    prefix.begin([0, 1])
    plain, said = backbone.encode(["a blue square"]).tensors, prefix.before("a blue square").tensors
    assert torch.equal(said["embeds"][0, 1:3], embeds[0, :2]) and torch.equal(
        said["embeds"][:, :1], plain["embeds"][:, :1]
    )
    assert torch.equal(said["embeds"][:, 3:], plain["embeds"][:, 1:-2])
    assert int(said["mask"].sum()) == int(plain["mask"].sum()) + 2


def test_the_attacked_prompt_gets_what_lies_beyond_the_empty_one(backbone, concept):
    backbone.gather(concept.prompts, 0)
    asked, empty = backbone.encode(["a red circle"]).repeat(2), backbone.encode([""]).repeat(2)
    state = backbone.draw(asked, torch.Generator().manual_seed(0))
    weights = Weights.copy(backbone, backbone.weights("cross_attn"))
    for value in weights.parameters():
        value.data += 0.05
    uncond, cond = frozen(backbone, state, empty), frozen(backbone, state, asked)
    method, prefix = replace(QUICK, scale=2.0), read(Words(backbone, 2, 0.1, False), "a blue")
    for used, text in ((prefix, "a blue a red circle"), (None, "a red circle")):
        with weights.attach(backbone):
            student = frozen(backbone, state, backbone.encode([text]).repeat(2))
        value = method.erasure(backbone, weights, used, state, asked, empty)
        wanted = (student - (uncond - 2 * (cond - uncond))).square().mean()
        assert float(value.detach()) == pytest.approx(float(wanted), rel=1e-4)
        recovery = method.revival(backbone, weights, prefix, state, asked)
        if used is prefix:
            assert float(recovery.detach()) == pytest.approx(float((student - cond).square().mean()), rel=1e-4)
    method.erasure(backbone, weights, prefix, state, asked, empty).backward()
    assert prefix.values.grad is None and all(value.grad is not None for value in weights.parameters())


def test_an_attack_brings_the_concept_nearer_and_a_fast_one_moves_by_signs(backbone, concept):
    backbone.gather(concept.prompts, 0)
    asked = backbone.encode(["a red circle"]).repeat(8)
    state = backbone.draw(asked, torch.Generator().manual_seed(0))
    weights = Weights.copy(backbone, backbone.weights("cross_attn"))
    for value in weights.parameters():
        value.data += 0.2 * torch.randn(value.shape, generator=torch.Generator().manual_seed(1))

    def near():
        with torch.no_grad():
            return float(method.revival(backbone, weights, prefix, state, asked))

    method = replace(QUICK, inner=12, attack_lr=0.3, start="latest")
    prefix = method.prefix(backbone, asked, 0)
    before, rows = near(), prefix.values.detach().clone()
    method.search(backbone, weights, prefix, asked, torch.Generator().manual_seed(2))
    assert near() < before
    method = replace(method, attack="fast", inner=1, attack_lr=0.25)
    prefix = method.prefix(backbone, asked, 0)
    assert torch.equal(prefix.values, rows)
    method.search(backbone, weights, prefix, asked, torch.Generator().manual_seed(2))
    torch.testing.assert_close((prefix.values - rows).abs(), torch.full_like(rows, 0.25), atol=1e-5, rtol=1e-5)


def test_attacks_begin_anew_or_where_the_last_one_ended(backbone, concept):
    backbone.gather(concept.prompts, 0)
    asked, weights = backbone.encode(["a red circle"]), Weights.copy(backbone, backbone.weights("cross_attn"))
    begun = {}
    for start in ("random", "latest"):
        method = replace(QUICK, start=start, inner=1, attack_lr=1e-9)
        prefix = method.prefix(backbone, asked, 0)
        first = prefix.values.detach().clone()
        method.search(backbone, weights, prefix, asked, torch.Generator().manual_seed(5))
        begun[start] = bool(torch.allclose(prefix.values, first, atol=1e-6))
    assert begun == {"random": False, "latest": True}


@pytest.mark.parametrize("family", ["unet", "sd3", "infinity"])
def test_the_text_encoder_is_trained_without_its_embeddings_and_the_network_stays(made, concept, family):
    backbone = made(family)
    names = encoder_weights(backbone)
    assert names and all(name.startswith("text_encoder") for name in names)
    assert not any("embed" in name or "shared" in name or "relative" in name for name in names)
    weights = replace(QUICK, train="text_encoder").fit(backbone, concept, seed=0)
    assert weights.names == names and weights.difference(backbone) > 1e-3
    plain = backbone.encode(["a red circle"]).tensors["embeds"]
    with weights.attach(backbone):
        assert not torch.equal(backbone.encode(["a red circle"]).tensors["embeds"], plain)
    assert torch.equal(backbone.encode(["a red circle"]).tensors["embeds"], plain)


def test_what_stays_is_felt_by_text_encoders_too(backbone, concept):
    weights = Weights.copy(backbone, encoder_weights(backbone))
    for value in weights.parameters():
        value.data += 0.1
    value = Preservation.of(backbone, concept, 1.0, 0, 0)(weights, 2, torch.Generator().manual_seed(0))
    assert float(value.detach()) > 0
    value.backward()
    assert any(one.grad is not None and one.grad.abs().max() > 0 for one in weights.parameters())


def test_a_training_resumes_with_its_prefix(backbone, concept, tmp_path):
    method = replace(QUICK, start="latest", steps=4)
    whole = method.fit(backbone, concept, seed=0).tensors()
    again = interrupted(method, backbone, concept, tmp_path, share=0.6)
    assert all(torch.equal(again[name], value) for name, value in whole.items())


def test_before_the_first_attack_prompts_are_bare(backbone, concept, monkeypatch):
    used, erase = [], AdvUnlearn.erasure
    monkeypatch.setattr(AdvUnlearn, "erasure", lambda *told: used.append(told[3] is None) or erase(*told))
    QUICK.fit(backbone, concept, seed=0)
    assert used == [True, False, False]


def test_the_papers_presets_are_the_codes_settings():
    full, fast = (load_method(name, "sd14") for name in ("advunlearn", "advunlearn_fast"))
    assert (full.train, full.attack, full.inner, full.attack_lr, full.tokens) == ("text_encoder", "pgd", 30, 1e-3, 1)
    assert (full.steps, full.peace, full.lr, full.preserve, full.retain_batch) == (1000, 200, 1e-5, 0.3, 5)
    assert fast == replace(full, attack="fast", inner=1)


def test_what_cannot_work_is_refused_with_the_way_out(backbone, concept, made):
    with pytest.raises(ValueError, match="peace: 3 of 3 steps leaves none to attack in; lower it or choose esd"):
        replace(QUICK, peace=3).fit(backbone, concept, seed=0)
    with pytest.raises(ValueError, match="reads a prompt inside a longer text, where free tokens have no place"):
        replace(QUICK, space="words").fit(made("sana"), concept, seed=0)
    with pytest.raises(ValueError, match="tiny knows classes; choose esd"):
        QUICK.fit(FAMILIES["dit"].make(), replace(concept, prompts=("red",), neutral=("blue",)), seed=0)


def test_partial_samples_of_a_text_encoder_in_training_read_the_prompt_by_it(backbone):
    weights = Weights.copy(backbone, encoder_weights(backbone))
    for value in weights.parameters():
        value.data += 0.3
    asked = backbone.encode(["a red circle"])
    found = reached(backbone, weights, asked, torch.Generator().manual_seed(4), "student", 3.0)
    with weights.attach(backbone):
        owner = torch.Generator().manual_seed(4)
        wanted = partial(backbone, backbone.encode(["a red circle"]), owner, 3.0)
    assert found.step == wanted.step > 0 and torch.equal(found.latent, wanted.latent)
