"""Clips made by hand: what the judge, CLIP, a linear classifier and NudeNet say of a concept in some of the frames."""

import math
from dataclasses import replace

import pytest
import torch

from stages.metrics import clip_rates, detectors, linear
from stages.metrics.base import measure
from stages.metrics.clips import longest_run, verdicts
from stages.metrics.detectors import NudeNet
from stages.metrics.linear import LinearRates
from stages.metrics.rates import Rates
from stages.metrics.samples import Samples
from stages.reporting.formats import written
from stages.worlds.judge import Judge
from stages.worlds.shapes import Shapes
from tests.metrics.told import Told, samples

RED = {"colour": "red"}
FLICKER = "001101000"  # 3 of 9 frames, the longest run 2


def clip(pattern: str, yes: torch.Tensor, no: torch.Tensor) -> torch.Tensor:
    """A clip whose frames are `yes` where the pattern has a 1, and `no` elsewhere, (F, 3, H, W)."""
    return torch.stack([yes if each == "1" else no for each in pattern])


def rows_of(metric, clips: list[torch.Tensor], target: dict[str, str]):
    rows = [{"prompt": f"a red circle {i}", "seed": i, "colour": "red", "shape": "circle"} for i in range(len(clips))]
    content = measure(metric, "mine", {"concept": Samples(torch.stack(clips), rows, target)}, None)
    return {row["metric"]: row for row in content["rows"]}, content["samples"]["concept"]


@pytest.mark.parametrize(
    ("pattern", "seen", "share", "run"),
    [("000000000", 0, 0, 0), (FLICKER, 1, 3 / 9, 2 / 9), ("111111111", 1, 1, 1), ("000000001", 1, 1 / 9, 1 / 9)],
)
def test_any_frame_counts_and_shares_say_how_long(pattern, seen, share, run):
    frames = torch.tensor([[float(each) for each in pattern]])
    given = Samples(torch.zeros(1, 9, 3, 2, 2), [{}], {})
    found = {name: float(value[0]) for name, value in verdicts("target", frames, given).items()}
    expected = {"target": seen, "target_frame_share": share, "target_run_share": run}
    assert found == {name: pytest.approx(value) for name, value in expected.items()}


def test_the_longest_run_is_of_each_clip():
    frames = torch.tensor([[1, 1, 0, 1], [0, 1, 1, 1], [0, 0, 0, 0]]).bool()
    assert longest_run(frames).tolist() == [2, 3, 0]


def test_a_frame_without_an_answer_leaves_the_clip_without_unless_another_shows_it():
    frames = torch.tensor([[0, math.nan], [1, math.nan]])
    found = verdicts("target", frames, Samples(torch.zeros(2, 2, 3, 2, 2), [{}, {}], {}))
    assert found["target"].isnan().tolist() == [True, False] and found["target"][1] == 1
    assert found["target_frame_share"].isnan().all() and found["target_run_share"].isnan().all()


def test_a_picture_has_no_shares():
    assert list(verdicts("target", torch.ones(2, 1), Samples(torch.zeros(2, 3, 2, 2), [{}, {}], {}))) == ["target"]


def test_the_judge_sees_what_four_frames_of_nine_show():
    asked = ["red circle", "red circle"]
    red, blue = samples(["red circle", "blue circle"], asked, RED).images
    clips = [clip("110011000", red, blue), clip("0" * 9, red, blue)]
    found, outcomes = rows_of(Rates(draws=50), clips, RED)
    assert outcomes["target"] == [1, 0] and found["target_rate"]["value"] == 0.5
    assert outcomes["coherent"] == [0, 1] and outcomes["broken"] == [0, 0]
    assert found["target_frame_share"]["value"] == pytest.approx(4 / 18)
    assert found["target_run_share"]["value"] == pytest.approx(2 / 18)
    assert written(found["target_run_share"]["value"], "target_run_share") == "11.1%"


def test_a_judge_answers_for_each_frame():
    verdict = Judge.look(Told(), Shapes().clips(2, 0, frames=3).images)
    assert verdict.shows(RED).shape == (2, 3) and verdict.shows({"direction": "left"}).shape == (2, 1)
    assert verdict.shows(RED | {"direction": "left"}).shape == (2, 3)


def test_the_change_of_a_clip_s_rates_is_paired():
    red, blue = samples(["red circle", "blue circle"], ["red circle"] * 2, RED).images
    whole, part = (
        Samples(torch.stack([clip(each, red, blue)]), [{"prompt": "p", "seed": 0, "colour": "red"}], RED)
        for each in ("1111", "1000")
    )
    content = measure(Rates(draws=50), "rates", {"concept": part}, {"concept": whole})
    found = {row["metric"]: row["value"] for row in content["rows"]}
    assert found["target_rate_change"] == 0
    assert (found["target_frame_share_change"], found["target_run_share_change"]) == (-0.75, -0.75)


def test_clip_names_each_frame(monkeypatch):
    embedded = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0]]])
    monkeypatch.setattr(clip_rates, "load_clip", lambda path: (None, None))
    monkeypatch.setattr(clip_rates, "embed_samples", lambda model, samples: embedded)
    monkeypatch.setattr(clip_rates, "embed_texts", lambda model, tokenizer, texts: torch.eye(2))
    metric = clip_rates.CLIPRates(choices={"shape": ("circle", "ring")})
    asked = [{"prompt": "a circle", "seed": 0, "shape": "circle"}]
    for target, expected in {"ring": [1, 0.25, 0.25], "circle": [1, 0.75, 0.5]}.items():
        given = Samples(torch.zeros(1, 4, 3, 2, 2), asked, {"shape": target})
        found = dict(zip(metric.names(given), metric.features(given)[0].tolist(), strict=True))
        assert [found[name] for name in ("target", "target_frame_share", "target_run_share")] == expected
    assert metric.look(given).named("shape") == ["circle"]


def test_a_linear_classifier_names_each_frame(monkeypatch):
    embedded = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0]]])
    monkeypatch.setattr(linear, "load_clip", lambda path: (None, None))
    monkeypatch.setattr(linear, "embed_samples", lambda model, samples: embedded)
    monkeypatch.setattr(linear, "read_linear", lambda path, classes: (torch.eye(2), torch.zeros(2)))
    metric = LinearRates(weights="w.pth", label="colour", classes=("red", "blue"))
    given = Samples(torch.zeros(1, 4, 3, 2, 2), [{"prompt": "a", "seed": 0}], RED)
    assert metric.features(given)[0].tolist() == [1, 0.25, 0.25]


def test_nudity_in_one_frame_counts(monkeypatch):
    def detect(images):
        return [[{"class": "ANUS_EXPOSED", "score": float(image[0, 0, 0])}] for image in images]

    monkeypatch.setattr(detectors, "detect", detect)
    nude, safe = torch.full((3, 8, 8), 0.9), torch.zeros(3, 8, 8)
    found, outcomes = rows_of(NudeNet(draws=50), [clip(FLICKER, nude, safe), clip("0" * 9, nude, safe)], {})
    assert outcomes["nudity_core5_0.6"] == [1, 0] and found["nudity_core5_0.6_rate"]["value"] == 0.5
    assert found["nudity_core5_0.6_frame_share"]["value"] == pytest.approx(3 / 18)
    assert found["nudity_core5_0.6_run_share"]["value"] == pytest.approx(2 / 18)


def test_pictures_are_measured_as_before():
    asked = ["red circle", "red square"]
    content = measure(Rates(draws=50), "rates", {"concept": samples(["red circle", "blue square"], asked, RED)}, None)
    assert not [row["metric"] for row in content["rows"] if "share" in row["metric"]]
    frame = samples(["red circle"], ["red circle"], RED)
    still = measure(Rates(draws=50), "rates", {"concept": replace(frame, images=frame.images[:, None])}, None)
    assert {row["metric"] for row in still["rows"]} >= {"target_frame_share", "target_run_share"}
