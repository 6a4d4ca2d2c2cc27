"""SalUn: the mask is where gradients are large, the concept's prediction becomes its label's, nothing else moves."""

from dataclasses import replace

import pytest
import torch

from stages.backbones.core.base import freeze
from stages.methods.salun import Masked, Masks, SalUn
from stages.methods.shared.base import Prompts, frozen, shown
from stages.objectives import salient
from stages.seeds import Purpose, generator
from tests.backbones import tiny_infinity

QUICK = SalUn(train="x", passes=2, batch=2, steps=3, lr=0.05)


def test_the_largest_gradients_of_all_weights_together_are_taken():
    first, second = salient([torch.tensor([[3.0, -1.0], [0.5, 0.0]]), torch.tensor([2.0, -4.0])], 0.5)
    assert first.tolist() == [[True, False], [False, False]] and second.tolist() == [True, True]
    assert [mask.tolist() for mask in salient([torch.tensor([0.0, 0.0, 1.0])], 1.0)] == [[False, False, True]]
    assert not salient([torch.tensor([1.0, 2.0])], 0.4)[0].any()


def test_the_mask_is_that_of_the_guided_error_on_the_concepts_own_pictures(backbone, concept):
    """Gradients of the network's own parameters, added up and then taken without their signs."""
    backbone.gather(concept.prompts, 0)
    prompts, names = Prompts.of(backbone, concept.prompts), backbone.weights("cross_attn")
    mask = QUICK.mask(backbone, names, prompts, seed=3)
    own, empty = (
        [backbone.addresses.parameter(name).requires_grad_() for name in names],
        backbone.encode([""]).repeat(2),
    )
    for i in range(2):
        draws = generator(Purpose.MASK, 3, i)
        asked = prompts.draw(2, draws)
        state, noise = shown(backbone, asked, draws)
        cond, uncond = (backbone.predict(state, condition) for condition in (asked, empty))
        (8.5 * cond - 7.5 * uncond - noise).square().mean().backward()
    wanted = salient([value.grad for value in own], 0.5)
    freeze(backbone.modules().values())
    assert sum(float((mask[name] == there).float().mean()) for name, there in zip(names, wanted, strict=True)) > (
        0.999 * len(names)
    )
    sizes = sum(there.numel() for there in wanted)
    assert sum(int(there.sum()) for there in mask.values()) == sizes // 2


@pytest.mark.parametrize("anchor", ["student", "frozen"])
def test_the_concept_gets_the_prediction_of_its_label_which_is_fixed(backbone, concept, anchor):
    backbone.gather(concept.prompts, 0)
    asked, label = backbone.encode(concept.prompts), backbone.encode(concept.neutral)
    state, _ = shown(backbone, asked, torch.Generator().manual_seed(0))
    weights = Masked(backbone, {name: torch.tensor(True) for name in backbone.weights("cross_attn")})
    before = frozen(backbone, state, label)
    for change in weights.changes:
        change.data += 0.1
    with weights.attach(backbone):
        ours, theirs = frozen(backbone, state, asked), frozen(backbone, state, label)
    assert not torch.equal(before, theirs)
    value = replace(QUICK, anchor=anchor).relabelling(backbone, weights, state, asked, label)
    wanted = (ours - (theirs if anchor == "student" else before)).square().mean()
    assert float(value.detach()) == pytest.approx(float(wanted), rel=1e-5)
    value.backward()
    assert all(change.grad is not None for change in weights.changes)


@pytest.mark.parametrize("family", ["unet", "infinity"])
def test_nothing_outside_the_mask_moves_whatever_the_optimizer(backbone, concept, family, monkeypatch):
    on = tiny_infinity.make(steps=2) if family == "infinity" else backbone
    masks, find = {}, SalUn.mask
    monkeypatch.setattr(SalUn, "mask", lambda *told: masks.update(made := find(*told)) or made)
    method = replace(QUICK, optimizer="adamw", weight_decay=0.1, mask_guidance=0.0)
    weights = method.fit(on, concept, seed=0)
    assert weights.names == list(masks) and sum(int(mask.sum()) for mask in masks.values()) > 0
    moved = 0
    for name, value in weights.items():
        own = on.addresses.parameter(name)
        assert torch.equal(value[~masks[name]], own[~masks[name]])
        moved += int((value != own).sum())
    assert moved > 0.9 * sum(int(mask.sum()) for mask in masks.values())


def test_pictures_that_stay_count_by_the_ordinary_loss(backbone, concept):
    backbone.gather(concept.retain, 0)
    asked = backbone.encode(concept.retain)
    weights = Masked(backbone, {name: torch.tensor(True) for name in backbone.weights("cross_attn")})
    state, noise = shown(backbone, asked, torch.Generator().manual_seed(1))
    wanted = (frozen(backbone, state, asked) - noise).square().mean()
    value = QUICK.staying(backbone, weights, asked, torch.Generator().manual_seed(1))
    assert float(value.detach()) == pytest.approx(float(wanted), rel=1e-5)


def test_bits_of_whole_pictures_are_their_own_targets():
    on = tiny_infinity.make(steps=2)
    on.gather(["a red circle"], 0)
    state, target = shown(on, on.encode(["a red circle"]), torch.Generator().manual_seed(0))
    assert torch.equal(target > 0, state.final.bool()) and float(on.distance(target, target)) < 1e-6


def test_a_share_of_which_nothing_is_left_is_refused(backbone, concept):
    with pytest.raises(ValueError, match="share: 0.0 of .* weights leaves none to train"):
        replace(QUICK, share=0.0).fit(backbone, concept, seed=0)
    assert not backbone.trajectories.pools  # nothing was drawn for it


def test_a_resumed_training_keeps_its_masks():
    first, again = Masks(a=torch.tensor([True, False])), Masks(a=torch.tensor([False, False]))
    place = again["a"]
    again.load_state_dict(first.state_dict())
    assert place.tolist() == [True, False]  # in place: the weights hold the very tensor
