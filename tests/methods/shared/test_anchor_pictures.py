"""Concept Ablation's anchor pictures: drawn of every anchor or read, resized with prompts that say so, masked."""

from dataclasses import replace

import pytest
import torch
from PIL import Image

from stages.methods.concept_ablation import ConceptAblation
from stages.methods.shared import anchor_pictures
from stages.methods.shared.anchor_pictures import (
    FAR,
    GREY,
    NEAR,
    PREFIXES,
    AnchorPictures,
    encoded,
    only_inside,
    resized,
    said,
)
from stages.params.concept import Concept

METHOD = ConceptAblation(states="pictures", pictures=2, steps=2, batch=3, lr=1e-3)


def test_two_thirds_are_shrunk_onto_grey_and_the_prompt_says_what_became_of_the_picture():
    generator, sides, white = torch.Generator().manual_seed(0), [], torch.ones(3, 60, 60)
    for _ in range(600):
        picture, inside, prefix = resized(white, generator)
        assert picture.shape == white.shape
        assert torch.equal(picture.mean(0) > (1 + GREY) / 2, inside) and (picture[:, ~inside] == GREY).all()
        side = int(inside.any(0).sum()) / 60
        assert side == int(inside.any(1).sum()) / 60
        sides.append(side if PREFIXES[prefix] != NEAR else 1.3)
        assert PREFIXES[prefix] == NEAR or side >= 0.33
        assert (PREFIXES[prefix] == FAR) == (side < 0.595) or 0.58 < side < 0.62
    assert 0.6 < sum(side <= 1 for side in sides) / 600 < 0.73
    assert 0.2 < sum(side < 0.6 for side in sides) / 600 < 0.34  # 0.4 of the two thirds


def test_an_enlarged_picture_shows_a_part_of_itself():
    ramp = torch.linspace(0, 1, 40).expand(3, 40, 40)
    generator = torch.Generator().manual_seed(1)
    parts = [made for made, _, prefix in (resized(ramp, generator) for _ in range(60)) if PREFIXES[prefix] == NEAR]
    assert len(parts) > 8 and all(made.shape == ramp.shape for made in parts)
    assert all(0.68 < float(made[0, 0, -1] - made[0, 0, 0]) < 0.88 for made in parts)  # of 1.2 to 1.4 sides, one


def test_clips_are_resized_as_one():
    clip = torch.rand(5, 3, 12, 16)
    made, inside, _ = resized(clip, torch.Generator().manual_seed(3))
    assert made.shape == clip.shape and inside.shape == (12, 16)


@pytest.mark.parametrize("shape", [(2, 4, 6, 6), (2, 4, 3, 6, 6)])
def test_the_error_is_the_mean_over_each_rows_inside(shape):
    prediction, target = torch.rand(shape), torch.rand(shape)
    inside = torch.ones(2, 12, 12, dtype=torch.bool)
    inside[1, :, 5:] = False  # the third column of places is inside by half, and so not
    value = torch.nn.functional.mse_loss(only_inside(prediction, target, inside), target)
    rows = (prediction - target).square()
    torch.testing.assert_close(value, (rows[0].mean() + rows[1, ..., :2].mean()) / 2)


def test_as_many_pictures_of_every_anchor_are_drawn_from_different_noise(backbone):
    pictures = AnchorPictures.drawn(backbone, ["a circle", "a square", "a cross"], 2, seed=0)
    assert pictures.rows == (0, 0, 1, 1, 2, 2) and pictures.pictures.dtype == torch.uint8
    assert len({tuple(picture.flatten().tolist()) for picture in pictures.pictures}) == 6
    again = AnchorPictures.drawn(backbone, ["a circle", "a square", "a cross"], 2, seed=0)
    assert torch.equal(again.pictures, pictures.pictures)
    seen = {row for _ in range(20) for row in pictures.batch(2, torch.Generator().manual_seed(_), augment=True).rows}
    assert seen == {0, 1, 2}


def test_a_batch_is_said_with_its_prefixes(backbone):
    prompts = ["a red circle", "a red square"]
    rows, pictures = [0, 1, 1], torch.zeros(3, 3, 4, 4)
    batch = anchor_pictures.Batch(pictures, torch.ones(3, 4, 4, dtype=torch.bool), rows, [0, 1, 2])
    assert said(encoded(backbone, prompts), batch).prompts == (
        "a red circle",
        "close up a red square",
        "a far away a red square",
    )


def test_it_trains_on_pictures_of_its_anchors_and_gathers_none_of_their_runs(backbone, concept):
    weights = METHOD.fit(backbone, concept, seed=0)
    assert not backbone.trajectories.pools and weights.difference(backbone) > 0
    plain = replace(METHOD, augment=False).fit(backbone, concept, seed=0)
    assert any(not value.equal(plain.tensors()[name]) for name, value in weights.tensors().items())


def test_pictures_of_ones_own_are_a_row_of_data_each(backbone, concept, tmp_path):
    for i in range(2):
        Image.new("RGB", (9, 9), (90 * i, 30, 200)).save(tmp_path / f"{i}.png")
    METHOD.fit(backbone, concept, seed=0)
    mine = replace(METHOD, images=str(tmp_path))
    assert mine.fit(backbone, concept, seed=0).tensors()
    Image.new("RGB", (9, 9)).save(tmp_path / "2.png")
    with pytest.raises(ValueError, match="3 pictures for 2 rows of data; a row for each is needed"):
        mine.fit(backbone, concept, seed=0)
    one = Concept("red", ("a red circle",), ("a circle",), ("a blue circle",))
    assert AnchorPictures.read(str(tmp_path), (8, 8), len(one.pairs())).rows == (0, 0, 0)
