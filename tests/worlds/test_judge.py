import pytest
import torch

from stages.worlds.captions import DIRECTIONS
from stages.worlds.judge import Judge, Verdict, direction
from stages.worlds.shapes import Shapes
from stages.worlds.train_judge import SPOILERS, soften, train_judge, training_batch

WORLD = Shapes()


@pytest.fixture(scope="module")
def judge() -> Judge:
    return train_judge(WORLD, seed=0, steps=60, batch=32)[0]


def test_sixty_steps_tell_colours(judge):
    batch = WORLD.sample(400, 99)
    verdict = judge.look(batch.images)
    assert (verdict.colour.argmax(1) == batch.colour).float().mean() > 0.8
    assert verdict.colour.shape == (400, 5) and torch.allclose(verdict.shape.sum(1), torch.ones(400))


@pytest.mark.slow
def test_the_judge_is_right_on_fresh_renders_soft_ones_and_clips():
    judge = train_judge(WORLD, seed=1)[0]
    batch, clips = WORLD.sample(2000, 99), WORLD.clips(300, 99, frames=3)
    soft = soften(batch.images, torch.Generator().manual_seed(0))
    for images, truth in ((batch.images, batch), (soft, batch), (clips.images, clips)):
        verdict = judge.look(images)
        assert (verdict.colour.argmax(1) == truth.colour).float().mean() > 0.995
        assert (verdict.shape.argmax(1) == truth.shape).float().mean() > 0.995
    assert judge.look(torch.rand(100, 3, 32, 32, generator=torch.Generator().manual_seed(0))).broken().all()


def test_equal_seeds_give_equal_judges_and_others_do_not():
    first, again, other = (train_judge(WORLD, seed=seed, steps=2, batch=8)[0].state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["colour.weight"], other["colour.weight"])


def test_save_and_load_give_the_same_verdict(judge, tmp_path):
    judge.save(tmp_path)
    loaded, images = Judge.load(tmp_path), WORLD.sample(5, 0).images
    assert torch.equal(loaded.look(images).colour, judge.look(images).colour)
    assert torch.equal(loaded.features(images), judge.features(images))
    assert not any(p.requires_grad for p in loaded.parameters())


def test_a_truncated_file_is_refused(judge, tmp_path):
    judge.save(tmp_path)
    path = tmp_path / "judge.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="judge.safetensors: not the weights of this judge"):
        Judge.load(tmp_path)


def test_features_are_standardised_over_renders(judge):
    features = judge.features(WORLD.sample(1000, 5).images)
    assert features.shape == (1000, judge.depth)
    assert features.mean(0).abs().max() < 0.2 and (features.std(0) - 1).abs().median() < 0.1


def test_a_verdict_answers_by_name():
    verdict = Verdict(("red", "blue"), ("dot",), torch.eye(3), torch.eye(2)[[0, 1, 1]], torch.tensor([1, -1, 0]))
    assert verdict.named("colour") == ["red", "blue", "none"]
    assert verdict.named("shape") == ["dot", "none", "none"]
    assert verdict.named("direction") == ["right", "none", "left"]
    assert verdict.broken().tolist() == [False, True, True]
    assert verdict.shows({"colour": "red", "shape": "dot"}).tolist() == [[True], [False], [False]]
    with pytest.raises(ValueError, match="the judge sees colour, shape, pair, not 'direction'"):
        Verdict(("red",), ("dot",), torch.eye(2), torch.eye(2)).named("direction")


def test_training_batches_spoil_a_quarter_and_label_it():
    images, colour, shape = training_batch(WORLD, 80, torch.Generator().manual_seed(0))
    assert images.shape == (80, 3, 32, 32) and images.min() >= 0 and images.max() <= 1
    assert (shape[:20] == len(WORLD.shapes)).all() and (shape[20:] < len(WORLD.shapes)).all()
    assert 0 < (colour[:20] == len(WORLD.colours)).sum() < 20 and len(SPOILERS) == 5


def test_softening_keeps_the_picture_near():
    images = WORLD.sample(50, 0).images
    soft = soften(images, torch.Generator().manual_seed(0))
    assert 0.005 < (soft - images).abs().mean() < 0.1


def test_direction_is_read_off_clips_even_under_noise():
    batch = WORLD.clips(200, 4, frames=5)
    noisy = batch.images + 0.1 * torch.randn(batch.images.shape, generator=torch.Generator().manual_seed(0))
    assert torch.equal(direction(batch.images), batch.direction)
    assert (direction(noisy.clamp(0, 1)) == batch.direction).float().mean() > 0.98
    assert (direction(batch.images.flip(1)) == (batch.direction ^ 1)).all()  # backwards: left and right, up and down


def test_what_rests_or_is_empty_has_no_direction():
    batch = WORLD.clips(20, 4, frames=5)
    still = batch.images[:, :1].expand(-1, 5, -1, -1, -1)
    assert (direction(still) == -1).all()
    assert (direction(torch.zeros(2, 5, 3, 32, 32)) == -1).all()
    assert len(DIRECTIONS) == 4


def test_clips_are_judged_over_their_frames(judge):
    batch = WORLD.clips(40, 2, frames=4)
    verdict = judge.look(batch.images)
    assert verdict.colour.shape == (40, 5) and torch.equal(verdict.direction, batch.direction)
    each = torch.stack([judge.look(batch.images[:, i]).colour for i in range(4)])
    assert torch.allclose(verdict.colour, each.mean(0), atol=1e-6)


def test_a_judge_that_is_not_there_is_said_in_one_line_with_the_way_out(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no judge; make it with: python -m stages.pretrain judge --out"):
        Judge.load(tmp_path / "judge")
