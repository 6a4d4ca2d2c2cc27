"""The file of tuned settings: what goes in, what stays out, and two searches of one architecture."""

import pytest
import yaml

from stages.tuning.log import write_tuned

LOG = {
    "architecture": "infinity",
    "backbone": "infinity-shapes",
    "concepts": ["red"],
    "protocol": 1,
    "fixed": {"through": "state", "seeds": 8, "batch": 8},
    "settings": {"lr": 0.2},
    "best": 1,
    "objective": 0.5,
    "trials": [{"objective": 0.25}, {"objective": 0.5}],
    "processors": ["a processor"],
}


def test_fields_without_an_effect_stay_out(tmp_path):
    """`seeds` counts with `through: run` alone, and a row that says it beside `through: state` would be refused."""
    path = write_tuned("minimalist", [LOG], tmp_path)
    assert yaml.safe_load(path.read_text()) == {"infinity": {"through": "state", "batch": 8, "lr": 0.2}}
    said = "trial 1 of 2, objective 0.500 (trial 0: 0.250), on a processor."
    assert f"# infinity: tuned on red with infinity-shapes, protocol 1: {said}" in path.read_text().splitlines()


def test_two_searches_of_one_architecture_are_refused(tmp_path):
    with pytest.raises(ValueError, match="minimalist: two searches are of the architecture infinity"):
        write_tuned("minimalist", [LOG, LOG | {"backbone": "infinity-tiny"}], tmp_path)
    assert not list(tmp_path.iterdir())
