"""MACE: attention to the concept falls where it is seen, one LoRA per member, all of them one change."""

from dataclasses import replace

import pytest
import torch

from stages.methods.mace import MACE, Factors, apart, fuse_weights, refine_weight
from stages.methods.shared.base import Prompts
from stages.methods.shared.text_inputs import paired_tokens
from stages.objectives import squared_inside
from stages.params.concept import Concept
from stages.reading.concept_masks import concept_tokens
from tests.backbones import tiny_infinity
from tests.backbones.families import FAMILIES

RED = Concept("red", ("a red circle", "a photo of a red shape"), ("a circle", "a photo of a shape"), ("a blue square",))
COLOURS = replace(RED, prompts=("a {} circle",), neutral=("a circle",), members=("red", "green"))
QUICK = MACE(steps=8, batch=2, lr=0.05, rank=2, mask="everywhere")


def generator(seed):
    return torch.Generator().manual_seed(seed)


def test_attention_counts_inside_the_mask_alone():
    maps, masks = [torch.tensor([[0.5, 2.0], [1.0, 3.0]])], [torch.tensor([[1.0, 0.0], [1.0, 1.0]])]
    assert squared_inside(maps, masks) == pytest.approx((0.25 + 10) / 2)
    assert squared_inside(maps * 2, masks * 2) == pytest.approx(0.25 + 10)


def test_the_words_around_a_concept_are_paired_and_its_own_are_left_out():
    assert paired_tokens([0, 5, 6, 9], [0, 5, 9], 6, "around") == ([0, 1, 3, 4, 5], [0, 1, 2, 3, 4])
    assert paired_tokens([0, 5, 9], [0, 5, 9], 3, "around") == ([0, 1, 2], [0, 1, 2])
    assert paired_tokens([0, 7, 9], [0, 8, 9], 5, "around") == ([0, 2, 3, 4], [0, 2, 3, 4])


def test_closed_forms_meet_each_of_their_demands_as_the_ridge_vanishes():
    draws = generator(0)
    weight, rows, given = (torch.randn(shape, generator=draws) for shape in ((6, 12), (4, 12), (4, 12)))
    stays = torch.randn(3, 12, generator=draws)
    new = refine_weight(weight, [(rows, given)], [(stays, 0.5)], 1e-9)
    torch.testing.assert_close(rows.double() @ new.T, (given @ weight.T).double(), rtol=0, atol=1e-5)
    torch.testing.assert_close(stays.double() @ new.T, (stays @ weight.T).double(), rtol=0, atol=1e-5)
    others = [(part, torch.randn(6, 12, generator=draws)) for part in rows.split(2)]
    fused = fuse_weights(new, others, weight, [(stays, 0.5)], 1e-9)
    for part, own in others:
        torch.testing.assert_close(part.double() @ fused.T, (part @ own.T).double(), rtol=0, atol=1e-5)
    torch.testing.assert_close(stays.double() @ fused.T, (stays @ weight.T).double(), rtol=0, atol=1e-5)
    assert torch.equal(
        refine_weight(weight, [(rows, given)], [(stays, 0.0)], 1.0), refine_weight(weight, [(rows, given)], [], 1.0)
    )


@pytest.mark.parametrize("family", ["unet", "sd3", "pixart"])
def test_a_lora_lowers_the_attention_to_its_word(family):
    backbone = FAMILIES[family].make()
    names = backbone.addresses.readers()
    own = {name: backbone.addresses.parameter(name).detach().double() for name in names}
    weights = QUICK.teach(backbone, RED, own, 0, 0)
    assert any((weights[name] - own[name]).abs().max() > 1e-4 for name in names)
    condition, positions = Prompts.of(backbone, RED.prompts).condition, concept_tokens(backbone, RED.prompts, ["red"])
    empty, state = backbone.encode([""]).repeat(2), QUICK.state(backbone, condition, generator(1))
    before, after = (
        QUICK.attention(backbone, Factors(base, 1, generator(0)), state, condition, empty, positions)
        for base in (own, weights)
    )
    assert after < before


def test_gradients_reach_the_factors_alone(backbone):
    own = {name: backbone.addresses.parameter(name).detach() for name in backbone.addresses.readers()}
    factors = Factors(own, 2, generator(0))
    backbone.gather(RED.prompts, 0)
    condition, empty = backbone.encode(RED.prompts), backbone.encode([""]).repeat(2)
    state = QUICK.state(backbone, condition, generator(1))
    QUICK.attention(backbone, factors, state, condition, empty, [[2], [5]]).backward()
    assert any(value.grad is not None and value.grad.abs().max() > 0 for value in factors.up)
    assert all(value.grad is None for value in backbone.net.parameters())


def test_times_are_drawn_where_concepts_take_shape(backbone):
    backbone.gather(RED.prompts, 0)
    condition = backbone.encode(["a red circle"] * 200)
    times = QUICK.state(backbone, condition, generator(0)).time
    assert ((times > 150) & (times < 450)).float().mean() > 0.85 and times.float().std() > 40


def test_every_member_has_its_own_lora_and_they_become_one_change(backbone, monkeypatch):
    assert [(part.name, part.prompts) for part in apart(COLOURS)] == [
        ("red", ("a red circle",)),
        ("green", ("a green circle",)),
    ]
    assert apart(RED) == [RED]
    taught, teach = [], MACE.teach
    monkeypatch.setattr(MACE, "teach", lambda *told: taught.append(told[2].name) or teach(*told))
    weights = QUICK.fit(backbone, COLOURS, seed=0)
    assert taught == ["red", "green"] and weights.names == backbone.addresses.readers()
    assert weights.difference(backbone) > 1e-4
    again = QUICK.fit(backbone, COLOURS, seed=0)
    assert all(torch.equal(a, b) for a, b in zip(weights.values, again.values, strict=True))


def test_what_a_backbone_cannot_do_is_refused_with_the_reason(backbone):
    with pytest.raises(ValueError, match="MACE trains on noised pictures; choose uce or speed"):
        QUICK.fit(tiny_infinity.make(steps=2), RED, seed=0)
    with pytest.raises(ValueError, match="looks for the words of red in all of its prompts; name them in `words`"):
        QUICK.fit(backbone, replace(RED, words=("circle",)), seed=0)
