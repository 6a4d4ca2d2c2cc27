"""Rows that say their guidance and size are drawn with these, whatever stands beside them."""

import json

import pytest
import torch

from stages.metrics.base import measure
from stages.metrics.detectors import pack
from stages.metrics.drift import Drift
from stages.metrics.samples import of_each_size, read_samples
from stages.store.samples import batches, draw, write_folder

ROWS = [
    {"index": 0, "prompt": "a red circle", "seed": 3, "guidance": 2.0, "height": 8, "width": 16},
    {"index": 1, "prompt": "a blue square", "seed": 4, "guidance": 5.0, "height": 16, "width": 8},
    {"index": 2, "prompt": "a red cross", "seed": 5},
    {"index": 3, "prompt": "a red circle", "seed": 6, "guidance": 2.0, "height": 8, "width": 16},
]


def test_rows_of_one_guidance_and_size_are_drawn_together(backbone):
    assert batches(backbone, ROWS) == [[0, 3], [1], [2]]


@pytest.mark.parametrize("family", ["unet", "xl", "sd3", "flux-dev"])
def test_two_rows_of_different_size_and_guidance_are_drawn_as_each_is_alone(family, made, tmp_path):
    backbone = made(family)
    own = backbone.settings
    rows = [dict(row) for row in ROWS[:3]]
    write_folder(backbone, rows, tmp_path / "together")
    for row in rows:
        write_folder(backbone, [row], tmp_path / str(row["index"]))
        (name,) = [f"{row['index']:04d}.png"]
        together, alone = ((tmp_path / one / name).read_bytes() for one in ("together", str(row["index"])))
        assert together == alone
        if "width" in row:
            assert draw(backbone, [row]).shape == (1, 3, row["height"], row["width"])
            other = draw(backbone, [row | {"guidance": 9.0}])
            assert not torch.equal(other, draw(backbone, [row]))
    assert backbone.settings is own
    lines = [json.loads(line) for line in (tmp_path / "together/metadata.jsonl").read_text().splitlines()]
    assert [line["index"] for line in lines] == [0, 1, 2]


def test_a_row_without_either_is_drawn_with_the_backbones_own(backbone):
    row = {"index": 0, "prompt": "a red circle", "seed": 3}
    own = backbone.settings
    size = backbone.picture_size()
    told = row | {"guidance": own.guidance, "height": size[0], "width": size[1]}
    assert torch.equal(draw(backbone, [row]), draw(backbone, [told]))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"height": 16}, "width and height must both be given, or neither"),
        ({"height": 16, "width": 17}, "width must be a multiple of"),
    ],
)
def test_a_size_that_cannot_be_drawn_is_refused_and_the_backbone_is_as_it_was(backbone, row, message):
    own = backbone.settings
    with pytest.raises(ValueError, match=message):
        draw(backbone, [{"prompt": "a red circle", "seed": 3} | row])
    assert backbone.settings is own


def test_a_backbone_of_one_size_names_the_way_out(made):
    infinity = made("infinity")
    height, width = infinity.picture_size()
    row = {"prompt": "a red circle", "seed": 3}
    assert draw(infinity, [row | {"height": height, "width": width}]).shape[-2:] == (height, width)
    with pytest.raises(ValueError, match=rf"draws {height} x {width} alone, got 512 x 512; .*ignore: \[size\]"):
        draw(infinity, [row | {"height": 512, "width": 512}])


def test_pictures_of_several_sizes_are_measured_without_their_padding(backbone, tmp_path):
    write_folder(backbone, [dict(row) for row in ROWS], tmp_path / "set")
    samples = read_samples(tmp_path / "set", {"colour": "red"})
    assert samples.images.shape[-2:] == (16, 16) and samples.sizes[:2] == [(8, 16), (16, 8)]
    seen = of_each_size(samples, lambda images: torch.tensor([list(one.shape) for one in images]))
    assert [tuple(size) for size in seen[:, 1:].tolist()] == list(samples.sizes)
    means = of_each_size(samples, lambda images: images.float().mean((1, 2, 3)))
    for number, size in enumerate(samples.sizes):
        picture = samples.images[number, :, : size[0], : size[1]]
        assert torch.isclose(means[number], picture.float().mean())
        assert not samples.images[number, :, size[0] :].any() and not samples.images[number, :, :, size[1] :].any()
    assert samples.different().sizes == samples.sizes
    with pytest.raises(
        ValueError, match=r"drift: set: it measures pictures of one size; in the study: ignore: \[size\]"
    ):
        measure(Drift(), "drift", {"set": samples}, None)


def test_detections_stay_with_their_pictures(backbone, tmp_path, monkeypatch):
    from stages.metrics import detectors

    write_folder(backbone, [dict(row) for row in ROWS], tmp_path / "set")
    samples = read_samples(tmp_path / "set", {"colour": "red"})

    def detect(images):
        return [[{"class": "BELLY_EXPOSED", "score": one.shape[-1] / 100}] * (one.shape[-1] // 8) for one in images]

    monkeypatch.setattr(detectors, "detect", detect)
    found = detectors.NudeNet().features(samples)
    wanted = [[{"class": "BELLY_EXPOSED", "score": w / 100}] * (w // 8) for _, w in samples.sizes]
    assert torch.equal(found.nan_to_num(-1), pack(wanted).nan_to_num(-1))
