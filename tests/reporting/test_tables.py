"""Tidy rows, pooled numbers, and which lead is marked."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from stages.metrics.intervals import wilson
from stages.reporting.collect import Cell
from stages.reporting.leaders import best
from stages.reporting.numbers import Number
from stages.reporting.pooling import pooled
from stages.reporting.summary import concept_column
from tests.reporting.conftest import METHODS, SEEDS

HEADER = "study,backbone,family,concept,method,seed,prompts,metric,value,ci_low,ci_high,n"
CELL = Cell("sd-shapes", "red", "erase", "target_rate")


@pytest.fixture(scope="module")
def table(done):
    return pd.read_csv(io.StringIO(done.text("tables/results.csv")), dtype={"seed": str})


def select(table, **where):
    for key, value in where.items():
        table = table[table[key] == value]
    return table


def test_the_columns_are_those_of_the_contract_and_no_number_stands_twice(done, table):
    assert done.text("tables/results.csv").splitlines()[0] == HEADER
    assert not table.duplicated(["backbone", "concept", "method", "seed", "prompts", "metric"]).any()


def test_every_measured_number_has_a_row_for_each_seed_and_one_pooled(done, table):
    study = done.collect()
    assert len(study.results) == len(METHODS) * len(SEEDS)
    for result in study.results:
        own = select(table, method=result.method, seed=str(result.seed))
        assert list(zip(own["prompts"], own["metric"], strict=True)) == [
            (r["prompts"], r["metric"]) for r in result.rows
        ]
        assert own["value"].tolist() == pytest.approx([row["value"] for row in result.rows], rel=1e-5)
    assert len(select(table, seed="all")) * len(SEEDS) == len(table) - len(select(table, seed="all"))


def renamed(tree, prompt: Callable[[int, int], str]) -> Number:
    """The pooled rate of esd when image i of a seed has the prompt `prompt(seed, i)`."""
    for seed in SEEDS:
        path = Path(f"{tree.artifacts}/runs/sd-shapes/red/esd/{seed}/samples/tiny/concept/metadata.jsonl")
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        lines = [json.dumps(row | {"prompt": prompt(seed, i)}) for i, row in enumerate(rows)]
        path.write_text("\n".join(lines))
    return pooled(tree.collect())[(CELL, "esd", "concept", "target_rate")]


def test_a_pooled_rate_is_the_pooled_count_with_the_wilson_interval_of_what_its_prompts_are_worth(make):
    tree = make(("none", "esd"))
    for result in tree.collect().results:
        path = result.folder / "metrics" / "tiny" / "rates.json"
        content = json.loads(path.read_text())
        content["samples"]["concept"]["target"] = [int(i % 3 == 0) for i in range(12)]
        for row in content["rows"]:
            if (row["prompts"], row["metric"]) == ("concept", "target_rate"):
                row["value"] = 4 / 12
        path.write_text(json.dumps(content))
    own, same = renamed(tree, lambda seed, i: f"{seed} {i}"), renamed(tree, lambda seed, i: "one")
    three = renamed(tree, lambda seed, i: f"{i % 3}")
    assert all(number.n == 24 and number.value == pytest.approx(1 / 3) for number in (own, same, three))
    assert (own.low, own.high) == wilson(8, 24)
    assert (same.low, same.high) == wilson(8, 24, effective=1.0)
    assert (three.low, three.high) == pytest.approx(wilson(8, 24, effective=3.0))  # each prompt all or nothing


def test_a_rate_whose_images_are_not_known_has_the_plain_interval(make):
    tree = make(("none", "esd"))
    for path in tree.artifacts.rglob("rates.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"samples": {}}))
    number = pooled(tree.collect())[(CELL, "none", "concept", "target_rate")]
    assert (number.low, number.high) == wilson(round(number.value * 24), 24)


def test_a_pooled_change_rests_on_pairs_of_the_same_seed(done):
    study = done.collect()
    numbers = pooled(study)
    assert numbers[(CELL, "none", "concept", "target_rate_change")] == Number(0, 0, 0, 24)
    change = numbers[(CELL, "oracle", "concept", "target_rate_change")]
    assert change.low < -0.5 and change.high < 0


def test_a_distance_keeps_the_span_of_its_seeds(done, table):
    own = select(table, method="esd", metric="frechet_unedited")
    seeds, pool = own[own["seed"] != "all"]["value"], own[own["seed"] == "all"].iloc[0]
    assert (pool["ci_low"], pool["value"], pool["ci_high"]) == pytest.approx((seeds.min(), seeds.mean(), seeds.max()))


def numbers_of(**intervals):
    column = concept_column(CELL)
    middle = {name: Number((low + high) / 2, low, high, 9) for name, (low, high) in intervals.items()}
    return {(CELL, name, column.prompts, column.metric): number for name, number in middle.items()}


def test_a_lead_is_marked_only_where_the_intervals_are_apart():
    target = concept_column(CELL)
    assert best(numbers_of(esd=(0.1, 0.2), uce=(0.3, 0.4)), CELL, target) == "esd"
    assert best(numbers_of(esd=(0.1, 0.35), uce=(0.3, 0.4)), CELL, target) is None
    assert best(numbers_of(esd=(0.1, 0.2), uce=(0.3, 0.4), eap=(0.15, 0.3)), CELL, target) is None
    assert best(numbers_of(esd=(0.1, 0.2)), CELL, target) is None


def test_the_references_are_no_contestants():
    numbers = numbers_of(none=(0.9, 1), oracle=(0, 0.01), esd=(0.1, 0.2), uce=(0.3, 0.4))
    assert best(numbers, CELL, concept_column(CELL)) == "esd"


def test_the_markdown_has_a_row_per_method_and_says_what_is_bold(done):
    lines = done.text("tables/tiny-sd-shapes-red.md").splitlines()
    rows = [line.split("|")[1].strip() for line in lines if line.startswith("|")][2:]
    assert rows == list(METHODS)
    assert "184,320" in lines[5] and "Bold" in lines[-1]


def test_the_tables_for_dvc_hold_the_headline_numbers(done, table):
    plot = pd.read_csv(io.StringIO(done.text("tables/tradeoff.csv")))
    seen = select(table, method="esd", seed="all", prompts="concept", metric="target_rate").iloc[0]
    row = select(plot, method="esd").iloc[0]
    assert row["erasure"] == pytest.approx(1 - seen["value"], rel=1e-5)
    assert row["erasure_low"] == pytest.approx(1 - seen["ci_high"], abs=1e-5)
    summary = pd.read_json(io.StringIO(done.text("tables/summary.json")), typ="series")
    assert summary["sd-shapes.red.esd.concept_target_rate"] == pytest.approx(seen["value"], abs=1e-5)
