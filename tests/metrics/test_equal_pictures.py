"""Samples of one prompt and seed are one picture: they count once, and each keeps its outcome."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from stages.metrics.base import measure
from stages.metrics.rates import Rates
from stages.metrics.samples import Samples, read_samples
from stages.store.pictures import write_sample
from tests.metrics.told import samples

TARGET = {"colour": "red"}
SEEN = ["red circle", "blue circle", "red square", "red circle"]
ASKED = ["red circle", "red circle", "red square", "red -"]


def repeated(given, order):
    return replace(given, images=given.images[list(order)], rows=[given.rows[i] for i in order])


def test_rates_and_their_intervals_do_not_depend_on_repetitions():
    once = samples(SEEN, ASKED, TARGET)
    order = [0, 1, 0, 2, 3, 3, 3, 1]
    metric = Rates(draws=200)
    plain = measure(metric, "rates", {"concept": once}, {"concept": once})
    many = measure(metric, "rates", {"concept": repeated(once, order)}, {"concept": repeated(once, order)})
    assert repr(many["rows"]) == repr(plain["rows"]) and {
        row["n"] for row in many["rows"] if "target" in row["metric"]
    } == {4}
    for name, outcomes in plain["samples"]["concept"].items():
        assert many["samples"]["concept"][name] == [outcomes[i] for i in order]
    assert repeated(once, order).pictures == [0, 1, 0, 2, 3, 3, 3, 1] and once.different() is once


def test_samples_that_are_not_finite_are_not_measured():
    with pytest.raises(FloatingPointError, match="sample 1: pictures are not finite"):
        pictures = torch.zeros(2, 3, 2, 2)
        pictures[1, 0, 0, 0] = torch.nan
        Samples(pictures, [{"prompt": "a", "seed": 0}] * 2, TARGET)


def test_samples_of_different_sizes_are_named(tmp_path):
    lines = [write_sample(tmp_path, {"index": i, "prompt": "a", "seed": i}, torch.rand(3, 4 + i, 4)) for i in range(2)]
    text = "".join(f'{{"file": "{line["file"]}", "prompt": "a", "seed": {line["seed"]}}}\n' for line in lines)
    Path(tmp_path / "metadata.jsonl").write_text(text)
    with pytest.raises(ValueError, match=r"0001\.png: of another size than the first sample: \(3, 5, 4\) instead of"):
        read_samples(tmp_path, TARGET)
    (tmp_path / "metadata.jsonl").write_text("")
    with pytest.raises(ValueError, match="no samples in it"):
        read_samples(tmp_path, TARGET)


def test_samples_as_another_program_left_them_are_read(tmp_path):
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(tmp_path / "a.webp", lossless=True)
    (tmp_path / "metadata.jsonl").write_text('{"file": "a.webp", "prompt": "ein\\nHund", "seed": 1}')
    assert read_samples(tmp_path, TARGET).images.unique().tolist() == [255]
