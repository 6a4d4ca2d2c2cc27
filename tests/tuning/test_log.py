"""The file of tuned settings: what goes in, what stays out, and two searches of one architecture."""

import pytest
import yaml

from stages.tuning.log import write_tuned

LOG = {
    "method": "minimalist",
    "world": "shapes",
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
    assert yaml.safe_load(path.read_text()) == {"shapes": {"infinity": {"through": "state", "batch": 8, "lr": 0.2}}}
    said = "trial 1 of 2, objective 0.500 (trial 0: 0.250), on a processor."
    assert f"# shapes infinity: tuned on red with infinity-shapes, protocol 1: {said}" in path.read_text().splitlines()


def test_two_searches_of_one_architecture_are_refused(tmp_path):
    with pytest.raises(ValueError, match="minimalist: two searches are of shapes infinity; remove"):
        write_tuned("minimalist", [LOG, LOG | {"backbone": "infinity-tiny"}], tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_search_of_a_kind_stands_beside_what_is_for_all_and_other_worlds_stay(tmp_path):
    scenes = LOG | {"world": "scenes"}
    write_tuned("minimalist", [LOG, scenes], tmp_path)
    path = write_tuned("minimalist", [scenes | {"kind": "style", "settings": {"lr": 0.5}}], tmp_path)
    both = {"through": "state", "batch": 8}
    assert yaml.safe_load(path.read_text()) == {
        "shapes": {"infinity": both | {"lr": 0.2}},
        "scenes": {"infinity": both | {"lr": 0.2, "style": both | {"lr": 0.5}}},
    }
    header = [line.partition(":")[0] for line in path.read_text().splitlines()[1:4]]
    assert header == ["# shapes infinity", "# scenes infinity", "# scenes infinity style"]
    write_tuned("minimalist", [scenes | {"settings": {"lr": 0.1}}], tmp_path)
    row = yaml.safe_load(path.read_text())["scenes"]["infinity"]
    assert row["lr"] == 0.1 and row["style"]["lr"] == 0.5


def test_settings_of_a_finished_checkpoint_are_not_of_a_world(tmp_path):
    with pytest.raises(ValueError, match="infinity-2b is a finished checkpoint: .* params/adapted/minimalist.yaml"):
        write_tuned("minimalist", [LOG | {"world": "", "backbone": "infinity-2b"}], tmp_path)
    assert not list(tmp_path.iterdir())
