"""Images, grids and figures."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from stages.reporting.figures import Panel, Style, heat_maps, loss_curves, png, styles, themed_svg, tradeoff
from stages.reporting.grids import SIDE, draw, grid, spread
from stages.reporting.images import Sample, blurred, data_uri, fitted, middle
from stages.reporting.numbers import Number


def image(width=8, height=8):
    values = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def samples(n, prompts):
    return [Sample(None, {"index": i, "prompt": prompts[i % len(prompts)], "seed": i, "file": ""}) for i in range(n)]


def test_pixel_art_grows_by_whole_pixels():
    small, large = image(), fitted(image(), 30)
    assert large.size == (24, 24)
    assert np.array_equal(np.asarray(large)[1::3, 1::3], np.asarray(small))
    assert fitted(image(64, 32), 16).size == (16, 8)


def test_blur_leaves_nothing_to_recognise():
    board = Image.fromarray(np.kron(np.indices((8, 8)).sum(0) % 2, np.ones((4, 4))).astype(np.uint8) * 255).convert(
        "RGB"
    )
    assert np.asarray(board).std() > 120
    assert np.asarray(blurred(board)).std() < 5


def test_a_clip_becomes_an_animation_and_stands_still_on_its_middle_frame():
    frames = [Image.new("RGB", (8, 8), (40 * i, 0, 0)) for i in range(5)]
    head, _, body = data_uri(frames).partition(",")
    with Image.open(io.BytesIO(base64.b64decode(body))) as clip:
        assert (head, clip.n_frames) == ("data:image/webp;base64", 5)
    assert middle(frames) is frames[2]


def test_spread_takes_every_prompt_in_its_share():
    chosen = spread(samples(48, "abcd"), 8)
    assert sorted(sample.prompt for sample in chosen) == list("aabbccdd")
    assert [sample.index for sample in chosen] == sorted(sample.index for sample in chosen)
    assert len(spread(samples(3, "abcd"), 8)) == 3


def test_a_grid_pairs_the_same_prompt_and_seed_of_every_method(done):
    found = grid(done.collect(), done.cell, "concept")
    assert list(found.images) == ["none", "esd", "esd_u", "oracle"]
    for column in found.images.values():
        assert [(s.prompt, s.seed) for s in column] == [(s.prompt, s.seed) for s in found.rows]


def test_a_drawn_grid_holds_the_images_enlarged(done):
    found = grid(done.collect(), done.cell, "retain")
    sheet, first = np.asarray(draw(found, hide=False)), np.asarray(found.images["oracle"][0].frames()[0])
    factor = SIDE // len(first)
    from stages.reporting.grids import GAP, LEFT, TOP

    left = LEFT + 3 * (SIDE + GAP)
    assert np.array_equal(sheet[TOP : TOP + SIDE : factor, left : left + SIDE : factor], first)


def points(n):
    names = ["none", *(f"method_{i}" for i in range(n)), "oracle"]
    return {name: (Number(i / (n + 2), i / (n + 3), 1, 9), Number(0.9, 0.8, 0.95, 9)) for i, name in enumerate(names)}


@pytest.mark.parametrize("n", [1, 6, 20])
def test_the_legend_lies_inside_the_figure_and_off_the_axes(n):
    figure = tradeoff(points(n), "red", "retained images right")
    figure.draw_without_rendering()
    legend, axes = figure.legends[0].get_window_extent(), figure.axes[0].get_tightbbox()
    assert not legend.overlaps(axes)
    assert legend.x0 >= 0 and legend.y0 >= 0 and legend.x1 <= figure.bbox.x1
    texts = [text.get_window_extent() for text in figure.legends[0].get_texts()]
    assert not any(a.overlaps(b) for i, a in enumerate(texts) for b in texts[:i])


def test_every_method_looks_different_and_the_references_always_the_same():
    drawn = styles(["none", *map(str, range(40)), "oracle"])
    assert len({(style.colour, style.marker, style.hollow) for style in drawn.values()}) == 42
    assert drawn["none"] == styles(["none"])["none"]


def test_figures_have_the_same_bytes_for_the_same_numbers():
    assert png(tradeoff(points(2), "red", "kept")) == png(tradeoff(points(2), "red", "kept"))
    svg = themed_svg(tradeoff(points(2), "red", "kept"), "a", 'of "red" & <b>')
    assert svg == themed_svg(tradeoff(points(2), "red", "kept"), "a", 'of "red" & <b>')
    assert 'aria-label="of &quot;red&quot; &amp; &lt;b>"' in svg and "var(--ink)" in svg and "#231f1a" not in svg


def test_missing_intervals_are_drawn_without_bars():
    number = Number(0.5, float("nan"), float("nan"), 9)
    assert png(tradeoff({"esd": (number, number)}, "red", "kept"))


def test_loss_curves_have_a_panel_per_method():
    lines = [(range(1, 4), [3.0, 2.0, 1.0])] * 2
    figure = loss_curves([Panel(name, Style("#123456", "o", "●"), lines) for name in "abcd"])
    assert [axes.get_title("left") or axes.get_title() for axes in figure.axes if axes.get_visible()] == list("abcd")


def test_heat_maps_name_their_rows_and_columns_and_refuse_the_wrong_number():
    panels = {"red seen": np.array([[0.1, np.nan, 0.3]]), "kept": np.array([[1.0, 0.5, 0.25]])}
    figure = heat_maps(panels, ["4"], ["1", "2", "4"])
    assert [[text.get_text() for text in axes.texts] for axes in figure.axes] == [
        ["10", "–", "30"],
        ["100", "50", "25"],
    ]
    assert [label.get_text() for label in figure.axes[1].get_xticklabels()] == ["1", "2", "4"]
    with pytest.raises(ValueError, match="1 x 2 as the labels are, got 1 x 3"):
        heat_maps(panels, ["4"], ["1", "2"])
