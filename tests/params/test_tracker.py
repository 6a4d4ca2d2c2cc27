"""The tracker's settings: read from the pipeline's file, refused before anything runs."""

import os

import pytest

from stages.params import tracker
from stages.params.tracker import PICTURES, TRACKER, Tracker


def test_jobs_read_what_the_pipeline_s_file_says(monkeypatch):
    for key, value in Tracker.of({"study": "demo", "tracker": "csv", "tracker_pictures": 5}).environment().items():
        monkeypatch.setitem(os.environ, key, value)
    assert Tracker.current() == Tracker("csv", 5)


def test_without_the_keys_there_is_none(monkeypatch):
    monkeypatch.delenv(TRACKER, raising=False)
    monkeypatch.delenv(PICTURES, raising=False)
    assert Tracker.of({"study": "demo"}) == Tracker.current() == Tracker("none", 0)


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_an_extra_that_is_missing_is_refused_with_the_way_to_get_it(name, monkeypatch):
    monkeypatch.setattr(tracker, "installed", lambda package: False)
    with pytest.raises(ValueError, match=rf"tracker: {name} is not installed: pip install 'palimpsest\[{name}\]'"):
        Tracker.of({"tracker": name})


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"tracker": "cvs"}, "no tracker 'cvs'; did you mean csv"),
        ({"tracker": "csv", "tracker_pictures": -1}, "must be 0 or more, got -1"),
        ({"tracker_pictures": 10}, "without a tracker nothing takes them"),
    ],
)
def test_what_cannot_work_is_refused(config, says):
    with pytest.raises(ValueError, match=says):
        Tracker.of(config)


def test_a_number_that_is_none_is_named(monkeypatch):
    monkeypatch.setenv(PICTURES, "often")
    with pytest.raises(ValueError, match="must be a number of steps, got 'often'"):
        Tracker.current()
