"""Clips that move and clips that do not."""

import dataclasses

import pytest
import torch

from stages.metrics.base import measure
from stages.metrics.clip_score import embed_images, load_clip
from stages.metrics.motion import Motion
from stages.metrics.samples import Samples


def clips(n=6, frames=4):
    images = torch.rand(n, frames, 3, 20, 24, generator=torch.Generator().manual_seed(0))
    return Samples(images, [{"prompt": f"{i}", "seed": i} for i in range(n)], {})


def frozen(given):
    return dataclasses.replace(given, images=given.images[:, :1].expand_as(given.images).clone())


def test_motion_and_consistency_are_by_hand(clip_folder):
    given = clips()
    found = Motion(model=clip_folder).features(given)
    wanted = (given.images[:, 1:] - given.images[:, :-1]).abs().mean((1, 2, 3, 4))
    torch.testing.assert_close(found[:, 0].float(), wanted)
    vectors = embed_images(load_clip(clip_folder)[0], given.images[0])
    pairs = [(max(0, vectors[i] @ vectors[0]) + max(0, vectors[i] @ vectors[i - 1])) / 2 for i in (1, 2, 3)]
    assert float(found[0, 1]) == pytest.approx(float(sum(pairs) / 3), abs=1e-5)


def test_a_frozen_clip_does_not_score_well(clip_folder):
    """Its frames are as alike as frames can be."""
    moving, metric = clips(), Motion(model=clip_folder, draws=20)
    content = measure(metric, "motion", {"retain": frozen(moving)}, {"retain": moving})
    values = {row["metric"]: row["value"] for row in content["rows"]}
    assert float(metric.features(frozen(moving))[:, 1].min()) == pytest.approx(1, abs=1e-5)
    assert (values["motion"], values["consistency"], values["still_rate"]) == (0, 0, 1)
    assert values["consistency_change"] < 0 and values["still_rate_change"] == 1
    before = {row["metric"]: row["value"] for row in measure(metric, "m", {"retain": moving}, None)["rows"]}
    assert before["still_rate"] == 0 and before["consistency"] > 0 and before["motion"] > 0.1


def test_pictures_are_refused(clip_folder):
    given = clips()
    with pytest.raises(ValueError, match="motion judges clips of two frames at least"):
        Motion(model=clip_folder).features(dataclasses.replace(given, images=given.images[:, 0]))
