import pytest
import torch

from Infinity.rope import positions, rotate, rotations
from Infinity.schedules import BUDGETS, TEMPLATES, Schedule, nearest_template, schedule, schedule_for_size

# height x width and tokens at each pixel budget, from the published tables
PUBLISHED = {
    1.0: [(256, 256, 521), (512, 512, 2521), (768, 768, 6425), (1024, 1024, 10521)],
    1.25: [(320, 256, 614), (560, 448, 2814), (880, 704, 6854), (1120, 896, 10774)],
    1.333: [(320, 240, 665), (576, 432, 2657), (960, 720, 7085), (1152, 864, 10973)],
    1.5: [(336, 224, 533), (624, 416, 2759), (1008, 672, 6941), (1248, 832, 10997)],
    1.75: [(336, 192, 472), (672, 384, 2628), (1120, 640, 7220), (1344, 768, 11252)],
    2.0: [(352, 176, 451), (736, 368, 2681), (1184, 592, 7219), (1440, 720, 11269)],
    2.5: [(400, 160, 555), (800, 320, 2555), (1280, 512, 6805), (1600, 640, 10805)],
    3.0: [(432, 144, 509), (864, 288, 2588), (1440, 480, 7016), (1776, 592, 11123)],
}


@pytest.mark.parametrize("ratio", PUBLISHED)
def test_sizes_and_tokens_are_the_published_ones_and_transpose(ratio):
    for pn, (height, width, tokens) in zip(BUDGETS, PUBLISHED[ratio], strict=True):
        tall, wide = schedule(pn, ratio), schedule(pn, 1 / ratio)
        assert (*tall.pixels(), tall.tokens) == (height, width, tokens)
        assert wide.grids == tuple((columns, rows) for rows, columns in tall.grids)


def test_there_are_fifteen_templates_with_the_published_keys():
    assert set(TEMPLATES) == {1, 1.25, 0.8, 1.333, 0.75, 1.5, 0.666, 1.75, 0.571, 2, 0.5, 2.5, 0.4, 3, 0.333}


def test_the_nearest_schedule_for_a_size():
    assert nearest_template(1.3) == 1.333
    assert schedule_for_size(500, 510) == schedule("0.25M", 1.0)
    assert schedule_for_size(592, 1776) == schedule("1M", 0.333)


def test_bad_schedules_say_what_is_allowed():
    with pytest.raises(ValueError, match=r"0\.06M, 0\.25M, 0\.60M, 1M"):
        schedule("2M")
    with pytest.raises(ValueError, match="1 to 7"):
        schedule("0.06M").prefix(8)
    assert len(Schedule.of(*range(1, 16))) == 15
    with pytest.raises(ValueError, match="at most 15 scales, got 16"):
        Schedule.of(*range(1, 17))


def test_offsets_partition_the_tokens():
    grids = schedule("0.25M", 1.5)
    assert grids.starts[0] == 0 and grids.ends[-1] == grids.tokens
    assert all(end - start == n for start, end, n in zip(grids.starts, grids.ends, grids.lengths, strict=True))


def test_positions_spread_over_the_largest_grid_whatever_the_budget():
    small, large = schedule("0.06M", 1.5), schedule("1M", 1.5)
    assert torch.equal(positions(small), positions(large)[: small.tokens])
    assert positions(large)[-1].tolist() == [77, 51]  # the 78 x 52 grid maps to itself


def test_positions_round_half_to_even():
    assert positions(Schedule.of((4, 1), reference=(10, 1)))[:, 0].tolist() == [0, 2, 5, 8]  # 2.5 -> 2, 7.5 -> 8


def test_rotation_is_the_textbook_formula_and_keeps_dot_products_of_equal_offsets():
    grids = Schedule.of(4)
    turns = rotations(grids, 8)
    x = torch.randn(1, 16, 1, 8, generator=torch.Generator().manual_seed(0))
    turned = rotate(x, turns)
    y, column = positions(grids)[7]
    angles = [y * 1.0, y * 0.01, column * 1.0, column * 0.01]
    for i, angle in enumerate(angles):
        a, b = x[0, 7, 0, 2 * i], x[0, 7, 0, 2 * i + 1]
        assert torch.allclose(turned[0, 7, 0, 2 * i], angle.cos() * a - angle.sin() * b, atol=1e-6)
        assert torch.allclose(turned[0, 7, 0, 2 * i + 1], angle.sin() * a + angle.cos() * b, atol=1e-6)
    same = rotate(x[:, :1].expand(-1, 16, -1, -1), turns)[0, :, 0]
    assert torch.allclose(same[0] @ same[5], same[10] @ same[15], atol=1e-5)
