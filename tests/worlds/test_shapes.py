from dataclasses import replace

import pytest
import torch

from stages.worlds.shapes import PALETTE, Shapes
from stages.worlds.signed_distances import DISTANCES, Scene, rasterise

WORLD = Shapes()


def scene(shape: int, angle: float = 0.0, centre: tuple[float, float] = (0.0, 0.0)) -> Scene:
    one = torch.ones(1)
    return Scene(
        one.long() * shape, one.expand(1, 3), 0 * one.expand(1, 3), torch.tensor([centre]), 9 * one, angle * one
    )


def test_same_seed_same_batch_and_other_seed_another():
    first, again, other = WORLD.sample(20, 3), WORLD.sample(20, 3), WORLD.sample(20, 4)
    assert torch.equal(first.images, again.images) and first.captions == again.captions
    assert not torch.equal(first.images, other.images)


def test_pictures_are_in_range_and_the_global_generator_is_left_alone():
    state = torch.get_rng_state()
    batch = WORLD.sample(200, 0)
    assert batch.images.shape == (200, 3, 32, 32) and batch.images.dtype == torch.float32
    assert batch.images.min() >= 0 and batch.images.max() <= 1
    assert torch.equal(state, torch.get_rng_state())


def test_the_middle_has_the_labelled_colour_and_the_corner_does_not():
    batch = WORLD.sample(200, 1)
    palette = torch.tensor([PALETTE[name] for name in WORLD.colours])
    middle = torch.cdist(batch.images[:, :, 16, 16], palette).argmin(1)
    assert torch.equal(middle, batch.colour)
    assert torch.cdist(batch.images[:, :, 0, 0], palette).amin() > 0.3


def test_every_pair_is_drawn_about_equally_often():
    batch = WORLD.sample(3200, 2)
    counts = torch.bincount(batch.colour * 4 + batch.shape, minlength=16)
    assert counts.min() > 140 and counts.max() < 260


@pytest.mark.parametrize("concept", ["red", "circle", "red circle"])
def test_an_excluded_concept_is_neither_drawn_nor_named(concept):
    batch = WORLD.sample(600, 5, exclude=concept)
    for caption, colour, shape in zip(batch.captions, batch.colour, batch.shape, strict=True):
        names = {WORLD.colours[colour], WORLD.shapes[shape]}
        assert not set(concept.split()) <= names
        assert concept not in caption
    assert len(set(zip(batch.colour.tolist(), batch.shape.tolist(), strict=True))) == (15 if " " in concept else 12)


@pytest.mark.parametrize("concept", ["", "purple", "red green", "circle red", "red circle dark"])
def test_an_unknown_exclusion_is_refused(concept):
    with pytest.raises(ValueError, match="have: red, green"):
        WORLD.sample(4, 0, exclude=concept)


@pytest.mark.parametrize("fields", [{"colours": ("mauve",)}, {"shapes": ()}, {"radius": (9, 8)}, {"size": 2}])
def test_a_world_that_cannot_be_drawn_is_refused(fields):
    with pytest.raises(ValueError):
        Shapes(**fields)


@pytest.mark.parametrize("name", DISTANCES)
def test_moving_the_centre_by_a_pixel_moves_the_picture_by_a_pixel(name):
    index = list(DISTANCES).index(name)
    here, there = (rasterise(scene(index, centre=c), tuple(DISTANCES), 32) for c in ((0.0, 0.0), (2.0, 1.0)))
    assert torch.allclose(here[..., 2:-2, 2:-3], there[..., 3:-1, 4:-1], atol=1e-5)


@pytest.mark.parametrize(("name", "turn"), [("circle", 0.7), ("square", torch.pi / 2), ("triangle", torch.pi * 2 / 3)])
def test_a_turn_by_a_symmetry_changes_nothing(name, turn):
    index = list(DISTANCES).index(name)
    plain, turned = (rasterise(scene(index, angle=a), tuple(DISTANCES), 32) for a in (0.0, turn))
    assert torch.allclose(plain, turned, atol=1e-4)
    assert 0.1 < plain.mean() < 0.5


def test_the_area_of_a_circle_is_that_of_its_width():
    picture = rasterise(scene(0), ("circle",), 32)[0, 0]
    width = picture[16].sum()
    assert picture.sum() == pytest.approx(float(torch.pi * width**2 / 4), rel=0.01)
    assert torch.allclose(picture, picture.T, atol=1e-5)


@pytest.mark.parametrize("name", DISTANCES)
def test_twice_the_size_is_four_times_the_area(name):
    index = list(DISTANCES).index(name)
    small = rasterise(scene(index), tuple(DISTANCES), 64)
    large = rasterise(replace(scene(index), radius=torch.tensor([18.0])), tuple(DISTANCES), 64)
    assert large.sum() == pytest.approx(4 * float(small.sum()), rel=0.03)


def test_captions_name_what_was_drawn_and_some_leave_it_out():
    batch = WORLD.sample(1000, 7)
    named = 0
    for caption, colour, shape in zip(batch.captions, batch.colour.tolist(), batch.shape.tolist(), strict=True):
        for kind, truth in ((WORLD.colours, colour), (WORLD.shapes, shape)):
            said = [i for i, name in enumerate(kind) if name in caption.split()]
            assert said in ([], [truth])
            named += len(said)
    assert 1200 < named < 1700
    assert 20 < batch.captions.count("") < 120


def test_a_clip_moves_the_way_its_caption_says():
    batch = WORLD.clips(60, 0, frames=5)
    assert batch.images.shape == (60, 5, 3, 32, 32)
    change = (batch.images - batch.images[:, :, :, :1, :1]).abs().sum(2)
    axis = torch.arange(32.0)
    x, y = ((change.sum(dim) @ axis) / change.sum((-2, -1)) for dim in (-2, -1))
    step = torch.stack([x[:, -1] - x[:, 0], y[:, -1] - y[:, 0]], 1)
    heading = torch.tensor([[-9.0, 0.0], [9.0, 0.0], [0.0, -9.0], [0.0, 9.0]])[batch.direction]
    assert torch.allclose(step, heading, atol=1.0)
    assert batch.images[:, :, :, 0, 0].amax() < 0.25
    for caption, direction in zip(batch.captions, batch.direction.tolist(), strict=True):
        assert "light" not in caption
        assert caption == "" or f"moving {('left', 'right', 'up', 'down')[direction]}" in caption


def test_a_larger_picture_shows_the_same_scene():
    small, large = Shapes().sample(8, 0), Shapes(size=64).sample(8, 0)
    assert small.captions == large.captions
    shrunk = torch.nn.functional.avg_pool2d(large.images, 2)
    assert (shrunk - small.images).abs().mean() < 0.02
