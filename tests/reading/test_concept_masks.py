"""The place of a concept: its words' tokens, attention to them or differences of predictions, masks of any size."""

import pytest
import torch

from stages.control.sites import Site
from stages.reading.concept_masks import (
    Locator,
    at_sites,
    averaged,
    binary,
    concept_tokens,
    difference_map,
    mean_map,
    normalised,
    other_tokens,
)
from tests.backbones.families import FAMILIES


def test_the_concepts_tokens_are_those_of_its_words(backbone):
    shown = ["a red circle", "a photo of a circle"]
    assert concept_tokens(backbone, shown, ["red"]) == [[2], []]
    assert concept_tokens(backbone, shown, ("circle", "a red")) == [[1, 2, 3], [5]]


def test_masks_fall_back_to_differences_row_by_row(backbone):
    condition, empty = backbone.encode(["a red circle", "a photo of a circle"]), backbone.encode(["", ""])
    backbone.gather(condition.prompts, 0)
    state = backbone.draw(condition, torch.Generator().manual_seed(0))
    tokens = {Site(0, "cross_attn"): 16, Site(1, "cross_attn"): 4}
    positions = [[2], []]
    masks = {
        how: Locator(how, 0.5).masks(backbone, state, (condition, empty), positions, tokens)
        for how in ("auto", "attention", "difference", "everywhere")
    }
    for site, count in tokens.items():
        assert masks["auto"][site].shape == (2, count)
        assert torch.equal(masks["auto"][site][0], masks["attention"][site][0])
        assert torch.equal(masks["auto"][site][1], masks["difference"][site][1])
        assert masks["attention"][site][1].sum() == 0
        assert masks["everywhere"][site].all()


def test_a_map_is_normalised_over_the_clip_and_one_that_is_flat_shows_nothing():
    clip = torch.tensor([[[[0.0, 1.0]], [[2.0, 4.0]]], [[[3.0, 3.0]], [[3.0, 3.0]]]])
    assert normalised(clip)[0].flatten().tolist() == [0, 0.25, 0.5, 1]
    assert binary(normalised(clip), 0.1)[1].sum() == 0


def test_maps_of_several_resolutions_vote_together_or_one_resolution_alone():
    coarse, fine = Site(0, "cross_attn"), Site(1, "cross_attn")
    maps = {coarse: torch.tensor([[1.0, 0.0, 0.0, 0.0]]), fine: torch.zeros(1, 16)}
    grid = mean_map(maps, (4, 4, 4))
    assert grid.shape == (1, 1, 4, 4) and grid[0, 0, :2, :2].eq(0.5).all() and grid.sum() == 2
    assert mean_map(maps, (4, 4, 4), side=2).shape == (1, 1, 2, 2)
    assert torch.equal(at_sites(grid, {coarse: 4}, (4, 4, 4))[coarse], torch.tensor([[0.5, 0, 0, 0]]))
    with pytest.raises(ValueError, match="no attention has 3 x 3"):
        mean_map(maps, (4, 4, 4), side=3)


def test_attention_that_cannot_be_read_is_refused_if_it_is_asked_for_and_replaced_if_not():
    backbone = FAMILIES["dit"].make()
    shown, empty = backbone.encode(["red"]), backbone.encode([""])
    backbone.gather(shown.prompts, 0)
    state = backbone.draw(shown, torch.Generator().manual_seed(0))
    tokens = {backbone.select("attn")[0]: 16}
    with pytest.raises(ValueError, match="no text in its attention"):
        Locator("attention").masks(backbone, state, (shown, empty), [[]], tokens)
    auto, difference = (
        Locator(how, 0.5).masks(backbone, state, (shown, empty), [[]], tokens) for how in ("auto", "difference")
    )
    (site,) = tokens
    assert torch.equal(auto[site], difference[site]) and 0 < auto[site].sum() < 16


def test_a_backbone_without_texts_has_no_tokens_of_a_concept():
    assert concept_tokens(FAMILIES["dit"].make(), ["red", "blue"], ["red"]) == [[], []]


def test_differences_are_means_over_channels_of_pictures_clips_and_bits():
    cond = torch.arange(12.0).view(1, 3, 2, 2)
    assert difference_map(cond, torch.zeros_like(cond)).tolist() == [[[4.0, 5.0], [6.0, 7.0]]]
    clip = torch.stack([cond, -cond], dim=1)  # (1, 2, 3, 2, 2)
    assert torch.equal(difference_map(clip, torch.zeros_like(clip))[:, 1], difference_map(cond, 0 * cond))
    bits = torch.tensor([[[1.0, -3.0], [0.0, 2.0]]])
    assert difference_map(bits, torch.zeros_like(bits)).tolist() == [[2.0, 1.0]]


def test_a_map_is_averaged_down_to_the_tokens_there_are():
    values = torch.arange(16.0).view(1, 4, 4)
    assert averaged(values, 4, (3, 4, 4)).tolist() == [[[[2.5, 4.5], [10.5, 12.5]]]]
    with pytest.raises(ValueError, match=r"5 tokens are no grid over latents of shape \(3, 4, 4\)"):
        averaged(values, 5, (3, 4, 4))


def test_tokens_that_another_text_lacks_at_that_place():
    ids = {
        "": [0, 9],
        "a red circle": [0, 1, 2, 3, 9],
        "a circle": [0, 1, 3, 9],
        "a big red circle": [0, 1, 4, 2, 3, 9],
    }

    def tokenize(texts):
        return [ids[text] for text in texts]

    assert other_tokens(["a red circle"] * 2, ["a circle", "a red circle"], tokenize) == [[2], []]
    assert other_tokens(["a circle", "a big red circle"], ["a big red circle", "a circle"], tokenize) == [[], [2, 3]]
