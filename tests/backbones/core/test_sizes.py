"""Sizes and numbers of frames that a family cannot draw are refused with the nearest that it can."""

import pytest

from stages.backbones.core.settings import Settings
from stages.backbones.core.sizes import check_frames, check_ratio, check_size
from stages.backbones.infinity import InfinityBackbone
from tests.backbones.families import FAMILIES
from tests.backbones.tiny_infinity import make as make_infinity


def test_the_nearest_are_named():
    with pytest.raises(
        ValueError, match="^sd: size: height must be a multiple of 8, got 500; the nearest are 496 and 504$"
    ):
        check_size("sd", (500, 512), 8)
    with pytest.raises(ValueError, match="^sd: size: width must be a multiple of 16, got 4; the nearest is 16$"):
        check_size("sd", (512, 4), 16)
    with pytest.raises(ValueError, match=r"^cog: frames must be 1 \+ 4 n, got 10; the nearest are 9 and 13$"):
        check_frames("cog", 10, 4)
    with pytest.raises(ValueError, match=r"0.562 \(720 x 1280\); the nearest are 0.571 and 0.5$"):
        check_ratio("infinity", (720, 1280), (1.0, 0.571, 0.5, 0.8))
    check_size("sd", None, 8)
    check_frames("cog", 0, 4)
    check_ratio("infinity", (3, 4), (0.75,))


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_refuses_what_it_cannot_draw_and_draws_the_rest(name):
    family = FAMILIES[name]
    backbone = family.make()
    multiple = backbone._multiple()
    with pytest.raises(
        ValueError, match=f"height must be a multiple of {multiple}, got {multiple + 1}; the nearest are"
    ):
        family.make(size=(multiple + 1, multiple))
    size = (2 * multiple, 2 * multiple)
    drawn = family.make(size=size)
    prompts = [f"a {next(iter(drawn.classes)).strip()}"] if name == "dit" else ["a red circle"]
    pictures = drawn.sample(drawn.encode(prompts), seeds=[0], steps=1, guidance=1.0)
    assert tuple(pictures.shape[-2:]) == size == drawn.picture_size()


@pytest.mark.parametrize(
    ("name", "changed", "message"),
    [
        ("unet", {"frames": 9}, "draws pictures, so frames must be 0, got 9"),
        ("dit", {"size": (8, 16)}, "a DiT draws squares, got 8 x 16; the nearest are 8 x 8 and 16 x 16"),
        ("sd3", {"size": (8, 20)}, "width must be at most 16, got 20"),
        ("wan", {"frames": 6}, "the nearest are 5 and 9"),
    ],
)
def test_what_a_family_cannot_draw(name, changed, message):
    with pytest.raises(ValueError, match=message):
        FAMILIES[name].make(**changed)


def test_infinity_draws_its_templates_alone():
    assert make_infinity(size=(64, 64)).picture_size() == make_infinity().picture_size()
    with pytest.raises(ValueError, match=r"no template of height over width 0.500 \(16 x 32\); the nearest is 1.0"):
        make_infinity(size=(16, 32))
    with pytest.raises(ValueError, match="frames must be 0"):
        make_infinity(frames=5)
    released = Settings(path="none", family="infinity", size=(720, 1280), release={"pn": "1M"})
    with pytest.raises(ValueError, match="big: size: no template .* the nearest are 0.571 and 0.5"):
        InfinityBackbone.load("big", released)
