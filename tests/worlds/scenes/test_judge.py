from dataclasses import replace

import pytest
import torch

from stages.worlds.scenes import Scenes
from stages.worlds.scenes.judge import Judge, Verdict
from stages.worlds.scenes.labels import COLOURS, LABELS, OBJECTS, PLACES
from stages.worlds.scenes.train_judge import (
    IGNORED,
    SPOILERS,
    accuracy,
    classes,
    softened,
    train_judge,
    training_batch,
)
from stages.worlds.scenes.world import named

WORLD = Scenes()
EVERY = replace(WORLD, withheld=())


def owner(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def told(*rows: dict[str, str], least: float = 0.5) -> Verdict:
    """A verdict that is sure of these names, and of none where a row says nothing."""
    answers = {kind: torch.zeros(len(rows), len(names) + 1) for kind, names in LABELS.items()}
    for i, row in enumerate(rows):
        for kind, names in LABELS.items():
            answers[kind][i, names.index(row[kind]) if kind in row else -1] = 1.0
    return Verdict(answers, least)


@pytest.fixture(scope="module")
def judge() -> Judge:
    return train_judge(WORLD, seed=0, steps=60, batch=32)[0]


def test_sixty_steps_tell_backgrounds_and_styles(judge):
    batch = EVERY.sample(300, 99)
    right = accuracy(judge, batch.images, batch.labels)
    assert set(right) == set(LABELS) and right["background"] > 0.8 and right["style"] > 0.7


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_judge_is_right_on_fresh_renders_soft_ones_and_clips_and_says_what_is_broken():
    judge = train_judge(WORLD, seed=1)[0]
    batch, clips = EVERY.sample(2000, 99), EVERY.clips(200, 99, frames=3)
    for images in (batch.images, softened(batch.images, owner())):
        assert min(accuracy(judge, images, batch.labels).values()) > 0.985
        assert judge.look(images).broken().float().mean() <= 0.01
    right = accuracy(judge, clips.images, clips.labels)
    assert min(right[kind] for kind in ("colour", "object", "figure")) > 0.985
    assert judge.look(clips.images).broken().float().mean() <= 0.01
    for spoil, _ in SPOILERS.values():
        broken = judge.look(spoil(batch.images[:500], owner())).broken()
        assert broken.float().mean() > 0.92  # blended ones are the hardest


def test_equal_seeds_give_equal_judges_and_others_do_not():
    first, again, other = (train_judge(WORLD, seed=seed, steps=2, batch=16)[0].state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["heads.style.weight"], other["heads.style.weight"])


def test_save_and_load_give_the_same_verdict(judge, tmp_path):
    judge.save(tmp_path)
    loaded, images = Judge.load(tmp_path), WORLD.sample(5, 0).images
    assert torch.equal(loaded.look(images).probabilities(), judge.look(images).probabilities())
    assert torch.equal(loaded.features(images), judge.features(images))
    assert loaded.look(images).least == judge.look(images).least != 0.0
    assert not any(p.requires_grad for p in loaded.parameters())


def test_a_truncated_file_and_one_of_other_labels_are_refused(judge, tmp_path):
    judge.save(tmp_path)
    path = tmp_path / "judge.json"
    path.write_text(path.read_text().replace('"tivvy"', '"toto"'))
    with pytest.raises(ValueError, match="other labels than this world's"):
        Judge.load(tmp_path)
    judge.save(tmp_path)
    weights = tmp_path / "judge.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ValueError, match="judge.safetensors: not the weights of this judge"):
        Judge.load(tmp_path)


def test_features_are_standardised_over_renders(judge):
    features = judge.features(EVERY.sample(1000, 5).images)
    assert features.shape == (1000, judge.depth)
    assert features.mean(0).abs().max() < 0.3 and (features.std(0) - 1).abs().median() < 0.1


def test_a_verdict_answers_by_name():
    verdict = told(
        {"colour": "red", "object": "star", "style": "neon", "place": "left"}, {"figure": "tivvy", "style": "flat"}, {}
    )
    assert verdict.named("colour") == ["red", "none", "none"] and verdict.named("figure") == ["none", "tivvy", "none"]
    assert verdict.named("pair") == ["red star", "none none", "none none"]
    assert verdict.broken().tolist() == [False, False, True]
    assert verdict.shows({"colour": "red", "style": ["flat", "neon"]}).tolist() == [[True], [False], [False]]
    assert verdict.shows({"figure": "tivvy"}).tolist() == [[False], [True], [False]]
    with pytest.raises(ValueError, match="the judge sees colour, object, .*, not 'direction'"):
        verdict.named("direction")


def test_what_is_nearly_as_likely_nothing_is_broken():
    answers = dict(told({"colour": "red", "object": "star"}, {"colour": "red", "object": "star"}).answers)
    answers["object"] = torch.tensor([[0.3, 0.2, *[0.0] * 6, 0.5], [0.6, 0.1, *[0.0] * 6, 0.3]])
    assert Verdict(answers, 0.5).broken().tolist() == [True, False]


def test_either_of_two_objects_counts():
    pair = {"colour": "red", "object": "star", "other_colour": "blue", "other_object": "moon", "place": "left"}
    verdict = told(pair, {"colour": "red", "object": "star", "place": "left"})
    for target, seen in (
        ({"colour": "blue"}, True),
        ({"object": "moon", "colour": "blue"}, True),
        ({"object": "moon", "colour": "red"}, False),
        ({"object": "moon", "place": "right"}, True),
        ({"object": "moon", "place": "left"}, False),
        ({"other_object": "star", "colour": "blue"}, True),
        ({"pair": "blue moon"}, True),
    ):
        assert verdict.shows(target).tolist() == [[seen], [False]], target
    assert verdict.shows({"place": "left"}).all()


def test_training_batches_spoil_a_quarter_and_label_it():
    images, labels = training_batch(EVERY, 96, owner())
    assert images.shape == (96, 3, 64, 64) and images.min() >= 0 and images.max() <= 1
    assert (labels["object"][:24] == len(OBJECTS)).all() and (labels["figure"][:24] == len(LABELS["figure"])).all()
    seen = (labels["object"] < len(OBJECTS)) | (labels["figure"] < len(LABELS["figure"]))
    assert seen[24:].all() and (labels["place"][-12:] == IGNORED).all()
    assert set(labels) == set(LABELS) and all(len(values) == 96 for values in labels.values())
    assert (labels["texture"][:4] == IGNORED).all() and (labels["background"][12:16] < 3).all()


def test_of_two_objects_the_left_or_the_upper_one_is_the_first():
    batch = Scenes(pairs=0.7, figures=0.0).sample(400, 0)
    first = classes(batch.labels)
    pair = batch.labels["other_object"] >= 0
    assert {PLACES[i] for i in first["place"][pair].tolist()} == {"left", "above"}
    for i, row in enumerate(named(batch.labels)):
        if row.get("place") in ("right", "below") and pair[i]:
            assert COLOURS[first["colour"][i]] == row["other_colour"]
            assert OBJECTS[first["other_object"][i]] == row["object"]


@pytest.mark.parametrize("name", SPOILERS)
def test_spoiling_leaves_nothing_of_the_picture_in_its_place(name):
    images, (spoil, kept) = WORLD.sample(32, 1).images, SPOILERS[name]
    before = images.clone()
    spoiled = spoil(images, owner())
    assert spoiled.shape == images.shape and spoiled.min() >= 0 and spoiled.max() <= 1
    assert torch.equal(images, before) and torch.equal(spoil(images, owner()), spoiled)
    assert ((spoiled - images).abs().flatten(1).mean(1) > 0.01).float().mean() > 0.9
    assert set(kept) <= set(LABELS)
    if name in ("shuffled", "rolled"):
        assert torch.allclose(spoiled.mean((2, 3)), images.mean((2, 3)), atol=1e-5)


def test_clips_are_judged_over_their_frames(judge):
    batch = WORLD.clips(20, 2, frames=4)
    verdict = judge.look(batch.images)
    assert torch.equal(verdict.direction, batch.labels["direction"])
    each = torch.stack([judge.look(batch.images[:, i]).answers["colour"] for i in range(4)])
    assert torch.allclose(verdict.answers["colour"], each.mean(0), atol=1e-5)
    assert verdict.shows({"background": "dark"}).shape == (20, 4)
    moving = verdict.shows({"direction": "left"})
    assert torch.equal(moving, (batch.labels["direction"] == 0)[:, None].expand(-1, 4))
    assert "direction" in verdict.labels() and verdict.named("direction")[0] in ("left", "right", "up", "down")


def test_every_part_has_few_false_alarms_alone(judge):
    """A small part of sound clips that are harder to recognise is not drowned by many easy pictures."""
    pictures, noise = EVERY.sample(200, 3).images, torch.rand(20, 2, 3, 64, 64, generator=owner())
    before = float(judge.least)
    try:
        judge.calibrate(pictures, noise, alarms=0.0)
        lowest = min(float(judge.look(part).recognised().min()) for part in (pictures, noise))
        assert float(judge.least) == pytest.approx(min(max(lowest, 0.3), 0.7))
    finally:
        judge.least.fill_(before)
