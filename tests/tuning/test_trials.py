"""The trials of a search: an optimum that is known is found, and a search that was killed goes on as it would have."""

import json
import math
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from statistics import fmean

import pytest

from stages.tuning.space import Dimension
from stages.tuning.trials import STARTUP, TRIALS, WORST, Outcome, claimed, run_trials
from tests import ROOT

SEARCH = {
    "lr": Dimension(log=(1e-5, 1e-1)),
    "scale": Dimension(linear=(0.0, 4.0)),
    "steps": Dimension(integer=(10, 200)),
    "train": Dimension(choice=("x", "u", "full")),
}
FIRST = {"lr": 1e-5, "scale": 1.0, "steps": 100, "train": "u"}


def hill(settings):
    """Highest, 1, at a learning rate of 1e-3 and a scale of 2 with everything trained."""
    far = abs(math.log10(settings["lr"]) + 3) / 2 + abs(settings["scale"] - 2) / 2 + 0.2 * (settings["train"] != "full")
    return Outcome(1 - far, {"far": far})


def anywhere(dice):
    """Settings of the space at random."""
    lr, scale, train = 10 ** dice.uniform(-5, -1), dice.uniform(0, 4), dice.choice(SEARCH["train"].choice)
    return {"lr": lr, "scale": scale, "train": train}


def run(folder, objective=hill, name="esd on sd", question="1", n=TRIALS):
    return run_trials(Path(folder) / "journal.log", name, question, SEARCH, FIRST, objective, n=n)


def test_the_first_trial_takes_the_declared_settings_and_others_lie_in_the_space(tmp_path):
    trials = run(tmp_path)
    assert [trial.number for trial in trials] == list(range(TRIALS))
    assert dict(trials[0].settings) == FIRST and trials[0].objective == hill(FIRST).objective
    for trial in trials:
        assert all(SEARCH[name].holds(value) for name, value in trial.settings.items()), trial
        assert trial.parts == {"far": pytest.approx(1 - trial.objective)}
        assert trial.seconds >= 0 and trial.processor
    assert len({json.dumps(dict(trial.settings)) for trial in trials}) == TRIALS


def test_an_optimum_that_is_known_is_come_near_to(tmp_path):
    """Nearer in the mean than by as many random trials, and never less near than trial 0, whatever the seeds are."""
    best = [max(trial.objective for trial in run(tmp_path / name, name=name, n=30)) for name in "abcdef"]
    dice = random.Random(0)
    drawn = [max(hill(anywhere(dice)).objective for _ in range(30)) for _ in range(200)]
    assert fmean(best) > fmean(drawn) and min(best) >= hill(FIRST).objective


def test_trials_after_the_first_ones_learn_from_them(tmp_path):
    """With other objectives the random ones are the same and those after them are not."""
    ours, theirs = run(tmp_path / "a"), run(tmp_path / "b", lambda settings: Outcome(-hill(settings).objective))
    assert [t.settings for t in ours[:STARTUP]] == [t.settings for t in theirs[:STARTUP]]
    assert [t.settings for t in ours[STARTUP:]] != [t.settings for t in theirs[STARTUP:]]


def test_another_study_of_the_same_journal_has_trials_of_its_own(tmp_path):
    ours, theirs = run(tmp_path), run(tmp_path, name="uce on sd")
    assert ours[0].settings == theirs[0].settings and ours[1].settings != theirs[1].settings
    assert run(tmp_path) == ours


def test_another_question_is_asked_anew_with_the_same_random_settings(tmp_path):
    ours, theirs = run(tmp_path), run(tmp_path, lambda settings: Outcome(0.5), question="2")
    assert [t.settings for t in ours[:STARTUP]] == [t.settings for t in theirs[:STARTUP]]
    assert {t.objective for t in theirs} == {0.5} and run(tmp_path) == ours


def test_a_finished_search_runs_nothing_again(tmp_path):
    before = run(tmp_path)
    assert run(tmp_path, lambda settings: pytest.fail("ran again")) == before


def test_numbers_that_are_not_finite_are_the_worst_trial_and_not_the_last(tmp_path):
    def diverges(settings):
        if settings["train"] == "u":
            raise FloatingPointError("esd: the loss is nan at step 3;\n lower the learning rate")
        return hill(settings)

    trials = run(tmp_path, diverges)
    assert len(trials) == TRIALS
    assert trials[0].objective == WORST
    assert trials[0].failed == "esd: the loss is nan at step 3; lower the learning rate"
    assert all(not trial.failed for trial in trials if trial.settings["train"] != "u")


def test_wrong_input_is_no_trial(tmp_path):
    def wrong(settings):
        raise ValueError("choose states: frozen")

    with pytest.raises(ValueError, match="choose states: frozen"):
        run(tmp_path, wrong)
    assert [dict(t.settings) for t in run(tmp_path)][0] == FIRST


KILLED = """
import os, signal, sys
from tests.tuning.test_trials import hill, run

asked = []
def objective(settings):
    asked.append(settings)
    if len(asked) == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    return hill(settings)

run(sys.argv[1], objective)
"""


@pytest.mark.parametrize("at", [1, 6])
def test_a_search_that_was_killed_goes_on_with_the_same_trials(tmp_path, at):
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "killed"), str(at)], cwd=ROOT)
    assert done.returncode == -signal.SIGKILL
    rest = []
    resumed = run(tmp_path / "killed", lambda settings: rest.append(settings) or hill(settings))
    unbroken = run(tmp_path / "unbroken")
    assert [(t.number, t.settings, t.objective) for t in resumed] == [
        (t.number, t.settings, t.objective) for t in unbroken
    ]
    assert len(rest) == TRIALS - at + 1  # the one that was killed is run again, those before it are not


def test_a_line_that_was_cut_off_is_left_out(tmp_path):
    before = run(tmp_path, n=5)
    with (tmp_path / "journal.log").open("ab") as file:
        file.write(b'{"op_code":4,"worker')
    assert run(tmp_path)[:5] == before
    assert run(tmp_path) == run(tmp_path)


def test_a_journal_has_one_writer(tmp_path):
    run(tmp_path, n=1)
    with claimed(tmp_path / "journal.log"), pytest.raises(ValueError, match="another process runs trials of it"):
        run(tmp_path)


def test_a_journal_is_lines_of_json(tmp_path):
    run(tmp_path, n=2)
    assert all(isinstance(json.loads(line), dict) for line in (tmp_path / "journal.log").read_text().splitlines())
    assert set(os.listdir(tmp_path)) == {"journal.log", ".journal.log.alive"}
