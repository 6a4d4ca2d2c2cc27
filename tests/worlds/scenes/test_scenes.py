import json
from pathlib import Path

import pytest
import torch

from stages.worlds.scenes import Scenes
from stages.worlds.scenes.figures import PARTS
from stages.worlds.scenes.labels import (
    COLOURS,
    DIRECTIONS,
    FIGURES,
    GROUNDS,
    LABELS,
    OBJECTS,
    PLACES,
    STYLES,
    WITHHELD,
    index,
)
from stages.worlds.scenes.objects import DISTANCES
from stages.worlds.scenes.palette import INKS, PAPERS
from stages.worlds.scenes.world import named

WORLD = Scenes()
LOOSE = Path(__file__).parent / "pictures.json"


def words(names: list[dict[str, str]]) -> set[str]:
    return {word for row in names for word in row.values()}


def one(**names: str) -> dict[str, torch.Tensor]:
    return {kind: torch.tensor([index(kind, name)]) for kind, name in names.items()}


def owner(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_same_seed_same_batch_and_other_seed_another():
    first, again, other = WORLD.sample(40, 3), WORLD.sample(40, 3), WORLD.sample(40, 4)
    assert torch.equal(first.images, again.images) and first.captions == again.captions
    assert all(torch.equal(first.labels[kind], again.labels[kind]) for kind in LABELS)
    assert not torch.equal(first.images, other.images)


def test_the_first_pictures_of_a_batch_are_painted_alike_however_many_follow():
    batch = WORLD.sample(150, 3)
    labels = {kind: values[:70] for kind, values in batch.labels.items()}
    many = WORLD.render(labels, owner())
    assert torch.equal(many, WORLD.render(labels, owner())) and many.shape == (70, 3, 64, 64)


def test_pictures_are_in_range_and_the_global_generator_is_left_alone():
    state = torch.get_rng_state()
    batch = WORLD.sample(300, 0)
    assert batch.images.shape == (300, 3, 64, 64) and batch.images.dtype == torch.float32
    assert batch.images.min() >= 0 and batch.images.max() <= 1 and torch.isfinite(batch.images).all()
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.numeric
def test_a_few_pictures_are_what_they_were():
    known = json.loads(LOOSE.read_text())
    coarse = 255 * torch.nn.functional.adaptive_avg_pool2d(WORLD.sample(6, 20).images, 4)
    assert (coarse - torch.tensor(known)).abs().max() < 1.0


def test_shares_are_as_asked_and_colours_and_objects_even():
    batch = WORLD.sample(8000, 2)
    figure, pair = batch.labels["figure"] >= 0, batch.labels["other_object"] >= 0
    assert float(figure.float().mean()) == pytest.approx(0.25, abs=0.02)
    assert float(pair.float().mean()) == pytest.approx(0.10, abs=0.015)
    assert not (Scenes(pairs=0.0).sample(500, 2).labels["other_object"] >= 0).any()
    for kind in ("colour", "object"):
        counts = torch.bincount(batch.labels[kind][~figure], minlength=8)
        assert counts.min() > 600 and counts.max() < 900
    assert set(batch.labels["figure"][figure].tolist()) == set(range(6)) - {FIGURES.index(name) for name in WITHHELD}


def test_a_label_that_does_not_apply_is_none():
    batch = WORLD.sample(2000, 5)
    figure, pair = batch.labels["figure"] >= 0, batch.labels["other_object"] >= 0
    for kind in ("colour", "object", "texture", "other_colour"):
        assert (batch.labels[kind][figure] == -1).all()
    assert ((batch.labels["colour"] >= 0) == ~figure).all() and (batch.labels["other_colour"][~pair] == -1).all()
    assert (batch.labels["place"][pair] > 0).all() and (batch.labels["style"] >= 0).all()
    for kind, names in LABELS.items():
        assert batch.labels[kind].max() < len(names)
    for style, grounds in GROUNDS.items():
        assert {row["background"] for row in named(batch.labels) if row["style"] == style} == set(grounds)
    assert all(row["style"] == "flat" for row in named(batch.labels) if row.get("texture", "plain") != "plain")


@pytest.mark.parametrize(
    "concept", ["red", "star", "neon", "tivvy", "striped", "red star", "sandy", "left", "mosaic moon", "neon red star"]
)
def test_an_excluded_concept_is_neither_drawn_nor_named(concept):
    batch, wanted = WORLD.sample(3000, 5, exclude=concept), set(concept.split())
    for caption, row in zip(batch.captions, named(batch.labels), strict=True):
        second = {"colour": row.get("other_colour", ""), "object": row.get("other_object", "")}
        assert not wanted <= set(row.values()) - set(second.values())
        assert not wanted <= set(second.values())
        assert f" {concept} " not in f" {caption} "
    assert len(words(named(batch.labels))) >= len(words(named(WORLD.sample(3000, 5).labels))) - 1


def test_several_concepts_of_several_kinds_are_excluded_at_once():
    out = ["red", "circle", "neon", "dotted", "grumbo", "blue star"]
    rows = named(WORLD.sample(3000, 1, exclude=out).labels)
    assert not words(rows) & {*out} and {"blue", "star", "plonk", "striped"} <= words(rows)
    assert not any(row.get("colour") == "blue" and row.get("object") == "star" for row in rows)


def test_withheld_figures_are_drawn_by_who_asks_alone():
    everyone = Scenes(withheld=())
    assert {*WITHHELD} <= words(named(everyone.sample(500, 0).labels))
    assert WORLD.render(one(figure="moxlo"), owner()).std() > 0.1


@pytest.mark.parametrize("concept", ["", "mauve", "red green", "red red", "scarlet", "red star dark wide", "shape"])
def test_an_unknown_exclusion_is_refused(concept):
    with pytest.raises(ValueError, match="have: "):
        WORLD.sample(4, 0, exclude=concept)


def test_a_world_that_cannot_be_drawn_is_refused():
    with pytest.raises(ValueError, match="size must be a multiple of 8"):
        Scenes(size=60)
    with pytest.raises(ValueError, match="shares that leave some"):
        Scenes(figures=0.8, pairs=0.2)
    with pytest.raises(ValueError, match="nothing is left to draw"):
        Scenes(figures=0.0, pairs=0.0).sample(2, 0, exclude=list(COLOURS))
    with pytest.raises(ValueError, match="a figure, or a colour and an object"):
        WORLD.render(one(colour="red"), owner())
    with pytest.raises(ValueError, match="no direction is left"):
        WORLD.clips(2, 0, exclude=list(DIRECTIONS))


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("thing", OBJECTS)
def test_a_flat_object_has_its_colour_and_stands_clear_of_the_border(thing, colour):
    for ground, paper in PAPERS.items():
        picture = WORLD.render(one(colour=colour, object=thing, background=ground), owner())[0]
        near = (picture - torch.tensor(INKS[colour])[:, None, None]).abs().amax(0) < 0.06
        assert 0.12 < near.float().mean() < 0.5
        border = torch.cat([picture[:, 0], picture[:, -1], picture[:, :, 0], picture[:, :, -1]], 1)
        assert (border - torch.tensor(paper)[:, None]).abs().max() < 0.06


def test_colours_are_far_apart():
    inks = torch.tensor([*INKS.values(), *PAPERS.values()])
    assert torch.pdist(inks).min() > 0.25


@pytest.mark.parametrize("style", STYLES)
def test_a_place_moves_the_object(style):
    axis = torch.linspace(-1, 1, 64)
    for place, heading in zip(PLACES, ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)), strict=True):
        scene = one(colour="yellow", object="circle", style=style, place=place)
        picture = WORLD.render(scene, owner(1))[0]
        ink = (picture[0] - picture[2]).clamp(min=0)  # yellow is the one with no blue
        x, y = (float((ink.sum(dim) @ axis) / ink.sum()) for dim in (0, 1))
        assert (x, y) == pytest.approx([0.42 * part for part in heading], abs=0.07)


@pytest.mark.parametrize("name", OBJECTS)
def test_distances_are_exact_near_the_outline(name):
    """Within two pixels of the outline the slope is one, but for the corners."""
    axis = torch.arange(-30.0, 30.0, 0.25)
    distance = DISTANCES[name](*(each[None] for each in torch.meshgrid(axis, axis, indexing="xy")), torch.tensor(20.0))
    down, across = torch.gradient(distance[0], spacing=0.25)
    slope = (down.square() + across.square()).sqrt()[distance[0].abs() < 2]
    assert (slope - 1).abs().median() < 0.01 and ((slope - 1).abs() < 0.05).float().mean() > 0.85
    inside = distance[0] < 0
    assert 0.2 < inside.float().mean() * 60**2 / 40**2 < 0.9 and not (inside[:36].any() or inside[:, :36].any())


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_symmetric_and_like_no_other(name):
    still = Scenes(offset=0.0, rotation=0.0, withheld=())
    picture, *others = (still.render(one(figure=each), owner())[0] for each in (name, *(set(FIGURES) - {name})))
    assert torch.allclose(picture, picture.flip(2), atol=0.02)
    assert min(float((picture - other).abs().mean()) for other in others) > 0.06
    assert set(PARTS) == set(FIGURES)


def test_a_larger_picture_shows_the_same_scene():
    small, large = WORLD.sample(24, 0), Scenes(size=128).sample(24, 0)
    assert small.captions == large.captions
    shrunk = torch.nn.functional.avg_pool2d(large.images, 2)
    assert (shrunk - small.images).abs().mean() < 0.012


def test_a_clip_moves_the_way_its_caption_says():
    batch = WORLD.clips(80, 0, frames=5)
    assert batch.images.shape == (80, 5, 3, 64, 64)
    change = (batch.images - batch.images[:, :, :, :1, :1]).abs().sum(2)
    axis = torch.arange(64.0)
    x, y = ((change.sum(dim) @ axis) / change.sum((-2, -1)) for dim in (-2, -1))
    step = torch.stack([x[:, -1] - x[:, 0], y[:, -1] - y[:, 0]], 1)
    heading = 20 * torch.tensor([[-1.0, 0.0], [1.0, 0.0], [0.0, -1.0], [0.0, 1.0]])[batch.labels["direction"]]
    assert (step - heading).abs().max() < 1.0
    for caption, row in zip(batch.captions, named(batch.labels), strict=True):
        assert caption == "" or f"moving {row['direction']}" in caption
        assert row["background"] == "dark" and "place" not in row
    assert (batch.labels["figure"] >= 0).any()


@pytest.mark.parametrize("concept", ["red", "tivvy", "left"])
def test_an_excluded_concept_is_in_no_clip(concept):
    batch = WORLD.clips(300, 1, frames=1, exclude=concept)
    assert concept not in words(named(batch.labels))
    assert not any(concept in caption.split() for caption in batch.captions)
