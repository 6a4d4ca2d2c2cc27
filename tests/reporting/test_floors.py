"""Each table says how often each judge sees the concept where nobody asks for it."""

import json
from dataclasses import replace

from stages.reporting.notes import floors
from stages.reporting.numbers import Number
from stages.reporting.pooling import pooled
from tests.reporting.test_columns import row, with_metric


def test_the_floor_of_each_judge_stands_under_the_table_and_on_the_page(make):
    tree = make(("none", "esd"), (0,))
    for path in tree.artifacts.rglob("none/0/metrics/tiny/rates.json"):
        content = json.loads(path.read_text())
        content["samples"]["retain"]["target"] = [1.0] * 3 + [0.0] * 21
        path.write_text(json.dumps(content | {"seen": "target"}))
    rows = [row("retain", "target_rate", 0.5), row("concept", "target_rate", 0.5)]
    outcomes = {"retain": {"target": [1, 0] * 12}, "concept": {"target": [1, 0] * 6}}
    with_metric(tree, "clip_rates", {"rows": rows, "samples": outcomes, "seen": "target"})
    study = tree.collect()
    assert study.judges == ("target_rate", "clip_rates_target_rate")
    said = floors(study, pooled(study), tree.cell)
    assert said.startswith("False positives, on retained prompts of the unedited model: target 12.5% (")
    assert "; clip_rates_target 50% (" in said and "of 24" in said
    assert tree.report() == 0
    assert said in tree.text("tables/tiny-sd-shapes-red.md") and "clip_rates_target 50%" in tree.text(
        "report/index.html"
    )


def test_a_judge_without_a_number_is_left_out_and_no_other_method_stands_for_the_unedited(make):
    tree = make(("none", "esd"), (0,))
    study = replace(tree.collect(), judges=("target_rate",))
    key = ("retain", "target_rate")
    assert floors(study, {(tree.cell, "esd", *key): Number(0.5, 0.4, 0.6, 24)}, tree.cell) == ""
    said = floors(study, {(tree.cell, "none", *key): Number(0.0, float("nan"), float("nan"), 24)}, tree.cell)
    assert "unedited model: target 0% of 24." in said
