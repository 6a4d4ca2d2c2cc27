"""A record tells what it can and never costs the work that it is about."""

import json
import math

import pytest

from stages.params.protocol import load_protocol
from stages.store import record
from stages.store.record import Record, recording


def written(folder):
    return json.loads((folder / "record-train.json").read_text(), parse_constant=pytest.fail)


def test_without_git_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert record.git() == {"commit": None, "dirty": None}


def test_the_version_of_the_protocol_stands_in_it_and_none_where_there_is_no_protocol(tmp_path, monkeypatch):
    with recording(tmp_path, "train", params={}):
        pass
    assert written(tmp_path)["protocol"] == load_protocol().version
    (tmp_path / "params").mkdir()  # a project of its own
    monkeypatch.chdir(tmp_path)
    with recording(tmp_path, "train", params={}):
        pass
    assert written(tmp_path)["protocol"] is None


def test_what_json_has_no_number_for_is_written_as_a_word(tmp_path):
    with recording(tmp_path, "train", params={"clip": math.inf, "betas": (0.9, -math.inf)}):
        Record.note(distance={"binary": math.nan, "trained": 0.5}, name="nan")
    content = written(tmp_path)
    assert content["params"] == {"clip": "inf", "betas": [0.9, "-inf"]}
    assert content["notes"] == {"distance": {"binary": "nan", "trained": 0.5}, "name": "nan"}


@pytest.mark.parametrize("steps", [1, 200, 201, 399, 400, 1001])
def test_a_curve_has_at_most_200_points_and_says_where_they_are(tmp_path, steps):
    with recording(tmp_path, "train", params={}):
        Record.losses("esd", [float(step) for step in range(steps)], seconds=1.0)
    curve = written(tmp_path)["curves"]["esd"]
    assert min(steps, 100) <= len(curve["loss"]) <= 200
    assert curve["loss"] == [float(curve["every"] * place) for place in range(len(curve["loss"]))]
