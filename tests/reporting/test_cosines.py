"""The cosines that circuit breakers watch reach the tables and the page, and nobody else's rows."""

import json

import pandas as pd
import pytest

from stages.reporting.collect import cosine_rows
from stages.reporting.collected import Cell
from stages.reporting.findings import cosines
from stages.reporting.numbers import Number

SEEN = {
    "breaker": {"1.block.out": {"0": 0.1, "1": 0.3}, "3.block.out": {"0": 0.0, "1": -0.2}},
    "retain": {"1.block.out": {"0": 1.0, "1": 0.9}, "3.block.out": {"0": 0.9, "1": 1.0}},
}


@pytest.mark.parametrize(("known", "counts"), [({}, (1, 1)), ({"breaker": 4, "retain": 3}, (4, 3))])
def test_rows_are_means_over_layers_and_scales_of_so_many_prompts(known, counts):
    breaker, retain = cosine_rows({"train": {"notes": {"cosines": SEEN, "watched_prompts": known}}})
    assert breaker == {"prompts": "concept", "metric": "breaker_cosine", "value": pytest.approx(0.05), "n": counts[0]}
    assert retain == {"prompts": "retain", "metric": "retain_cosine", "value": pytest.approx(0.95), "n": counts[1]}


@pytest.mark.parametrize(
    "records",
    [{}, {"train": {"notes": {}}}, {"train": {"notes": {"cosines": {"breaker": {"1.block.out": {}}}}}}],
)
def test_without_cosines_there_are_no_rows(records):
    assert cosine_rows(records) == []


def test_only_the_tables_own_methods_are_named():
    cell, other = (Cell(name, "red", "erase", "target_rate") for name in "ab")
    numbers = {
        (cell, "esd", "concept", "target_rate"): Number(0.1, 0, 1, 9),
        (cell, "circuit_breaker", "concept", "breaker_cosine"): Number(0.046, 0, 1, 9),
        (cell, "circuit_breaker", "retain", "retain_cosine"): Number(0.951, 0, 1, 9),
    }
    (sentence,) = cosines(numbers, cell)
    assert sentence.endswith("(concept / rest): circuit_breaker 0.05 / 0.95.")
    assert cosines(numbers, other) == []


def test_they_reach_the_table_and_the_page_beside_rows_that_stay(make):
    tree = make()
    assert tree.report() == 0
    before = tree.text("tables/results.csv").splitlines()
    path = tree.artifacts / "runs/sd-shapes/red/esd/1/record-train.json"
    record = json.loads(path.read_text())
    record["notes"] |= {"cosines": SEEN, "watched_prompts": {"breaker": 4, "retain": 4}}
    path.write_text(json.dumps(record))
    assert tree.report() == 0
    after = tree.text("tables/results.csv").splitlines()
    new = [line for line in after if line not in before]
    assert [line for line in after if line in before] == before
    frame = pd.read_csv(tree.artifacts / "tables/results.csv")
    rows = frame[frame["metric"] == "breaker_cosine"]
    assert len(new) == 4 and set(rows["method"]) == {"esd"} and set(rows["seed"]) == {"1", "all"}
    assert rows["ci_low"].isna().all() and rows["ci_high"].isna().all() and set(rows["n"]) == {4}
    said = "esd 0.05 / 0.95"
    assert said in tree.text("tables/tiny-sd-shapes-red.md")
    assert "Cosine of the watched states" in tree.text("report/index.html")
