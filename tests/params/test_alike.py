"""Backbones of one architecture that say which seed they are from share a table."""

from stages.params.alike import origin, tables


def test_backbones_that_differ_in_their_seed_share_a_table():
    files = {
        "sd-scenes": {"architecture": "sd", "world": "scenes", "trained": 0},
        "sd-scenes-1": {"architecture": "sd", "world": "scenes", "trained": 1},
        "sd-scenes-withheld": {
            "architecture": "sd",
            "world": "scenes",
            "trained": None,
        },  # like the first, but an oracle
        "flux-scenes": {"architecture": "flux", "world": "scenes", "trained": 0},
        "sd-shapes": {"architecture": "sd", "world": "shapes"},
        "sd14": {"architecture": "sd"},
    }
    named = tables(files)
    assert named["sd-scenes"] == named["sd-scenes-1"] == "sd-scenes"
    assert named["sd-scenes-withheld"] == "sd-scenes-withheld"
    assert {name: named[name] for name in ("flux-scenes", "sd-shapes", "sd14")} == {
        name: name for name in ("flux-scenes", "sd-shapes", "sd14")
    }


def test_a_record_says_the_architecture_and_the_seed_zero_too():
    assert origin({"architecture": "sd", "trained": 0, "path": "x"}) == {"architecture": "sd", "trained": 0}
    assert origin({"path": "x"}) == {}
