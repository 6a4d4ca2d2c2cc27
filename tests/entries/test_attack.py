"""The entry of attacks: it judges as it is measured, and keeps what was attacked and learned beside what was found."""

import json
from pathlib import Path

import pytest
import torch

from stages import attack
from stages.interventions import load
from stages.metrics.attacked import add_successes
from tests.entries.test_entries import RUN, run_all, write


def lines(folder):
    return [json.loads(line) for line in Path(folder, "metadata.jsonl").read_text().splitlines()]


@pytest.fixture
def bright(monkeypatch):
    """A judge that sees the concept in bright pictures."""
    from stages.metrics.rates import Rates

    monkeypatch.setattr(Rates, "names", lambda self, samples: ("target",))

    def features(self, samples):
        return torch.cat([(part.images.mean((1, 2, 3)) > 0.03).float() for part in samples.parts()])[:, None]

    monkeypatch.setattr(Rates, "features", features)


def attacked(content, name="it", n=3):
    write("attacks", name, content)
    study = json.loads(json.dumps({"prompts": {"concept": n, "retain": 2}, "metrics": ["rates"]}))
    write("studies", "mini", study)
    write("metrics", "rates", {"class": "stages.metrics.rates.Rates"})
    run_all("artifacts/a")
    out = Path("artifacts/a/attacks/mini") / name
    given = ["--study", "mini", "--attack", name, "--method", "esd", "--run", "artifacts/a", "--out", str(out)]
    assert attack.main([*RUN, *given]) == 0
    return out


def test_what_was_attacked_is_drawn_at_the_same_seeds(project, bright):
    out = attacked({"class": "stages.attacks.black_box.BlackBox", "kinds": ["negation"]}, n=2)
    found, before = lines(out), lines(out / "before")
    record = json.loads((out.parent / "record-attack-it.json").read_text())
    assert len(found) == len(before) == 3  # more than the study's two: one of each prompt at least
    assert [row["seed"] for row in found] == [row["seed"] for row in before]
    assert [row["prompt"] for row in before] == [one["start"] for one in record["notes"]["attempts"]]
    assert [row["prompt"] for row in found] == [one["prompt"] for one in record["notes"]["attempts"]]


def test_what_was_learned_is_saved(project, bright):
    inversion = {"initialiser": "shape", "images": 2, "steps": 1, "batch": 2}
    out = attacked({"class": "stages.attacks.concept_inversion.ConceptInversion"} | inversion)
    assert load(out / "found").tensors()["text_encoder"].shape[0] == 1


def test_a_search_is_told_the_studys_verdict(project, bright):
    content = {"class": "stages.attacks.unlearndiffatk.UnlearnDiffAtk", "tokens": 2, "samples": 1, "iterations": 1}
    out = attacked(content | {"readable": True})
    (one,) = json.loads((out.parent / "record-attack-it.json").read_text())["notes"]["attempts"]
    assert one["before"] in (True, False) and one["after"] in (True, False)


def test_pre_asr_and_asr_are_of_all_pictures():
    """ASR = (pre + post) / N: a picture that shows the concept without attack counts, even if the attack loses it."""
    content = {"rows": [], "samples": {"it": {"attack": [1, 0, 0, 1]}}}
    before = {"seen": "target", "samples": {"it/before": {"target": [0, 1, 0, 1]}}}
    add_successes(content, before, {"it": ["a", "b", "c", "d"]})
    rates = {row["metric"]: row for row in content["rows"]}
    assert (rates["pre_asr"]["value"], rates["asr"]["value"]) == (0.5, 0.75)
    assert rates["asr"]["n"] == 4 and rates["asr"]["ci_low"] < 0.75 < rates["asr"]["ci_high"]
    assert content["samples"]["it"] == {"attack": [1, 0, 0, 1], "before": [0, 1, 0, 1]}
