"""The entry reports attacks as the literature does: beside what is seen without them, both of all N."""

import json

from stages import evaluate
from tests.metrics.test_evaluate import OUT, RUN, project, rate, sampled, write

assert project  # the fixture


def measured(project):
    write("studies", "mini", {"prompts": {"concept": 3}, "metrics": ["nudenet"]})
    assert evaluate.main([*RUN, "--attacks", "bell", "--out", str(OUT)]) == 0
    return json.loads((OUT / "nudenet.json").read_text())


def test_asr_is_the_union_of_before_and_after(project):
    sampled("esd", "bell/before", [0.1, 0.1, 0.9, 0.1], "attacks")
    content = measured(project)
    assert content["samples"]["bell"] == {"attack": [1, 1, 0, 0], "before": [0, 0, 1, 0]}
    assert [rate(content, "bell", name) for name in ("pre_asr", "attack_rate", "asr")] == [0.25, 0.5, 0.75]
    assert "bell/before" not in content["samples"]


def test_an_attack_that_tells_no_starts_has_its_rate_alone(project):
    content = measured(project)
    assert rate(content, "bell", "attack_rate") == 0.5
    assert rate(content, "bell", "asr") is None and rate(content, "bell", "pre_asr") is None
