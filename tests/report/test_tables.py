"""Tidy rows, pooled numbers, and which lead is marked."""

import io
from math import sqrt

import pandas as pd
import pytest

from stages.reporting.collect import Cell
from stages.reporting.summary import COLUMNS, best
from stages.reporting.tables import Number, pooled, results
from tests.report.conftest import METHODS, SEEDS

HEADER = "study,backbone,family,concept,method,seed,prompts,metric,value,ci_low,ci_high,n"
CELL = Cell("sd-shapes", "red")


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


def test_a_pooled_rate_is_the_pooled_count_with_its_wilson_interval(done, table):
    outcomes = [r.outcomes["concept"]["target"] for r in done.collect().results if r.method == "esd_u"]
    k, n, z = sum(map(sum, outcomes)), sum(map(len, outcomes)), 1.959963984540054
    centre, reach = (k + z * z / 2) / (n + z * z), z * sqrt(k * (n - k) / n + z * z / 4) / (n + z * z)
    row = select(table, method="esd_u", seed="all", prompts="concept", metric="target_rate").iloc[0]
    assert (row["value"], row["n"]) == (pytest.approx(k / n), n)
    assert (row["ci_low"], row["ci_high"]) == (
        pytest.approx(max(centre - reach, 0), abs=1e-6),
        pytest.approx(centre + reach, rel=1e-5),
    )


def test_a_pooled_change_rests_on_pairs_of_the_same_seed(done):
    study = done.collect()
    numbers = pooled(results(study))
    assert numbers[(CELL, "none", "concept", "target_rate_change")] == Number(0, 0, 0, 24)
    change = numbers[(CELL, "oracle", "concept", "target_rate_change")]
    assert change.low < -0.5 and change.high < 0


def test_a_distance_keeps_the_span_of_its_seeds(done, table):
    own = select(table, method="esd", metric="frechet_unedited")
    seeds, pool = own[own["seed"] != "all"]["value"], own[own["seed"] == "all"].iloc[0]
    assert (pool["ci_low"], pool["value"], pool["ci_high"]) == pytest.approx((seeds.min(), seeds.mean(), seeds.max()))


def numbers_of(**intervals):
    column = COLUMNS[0]
    middle = {name: Number((low + high) / 2, low, high, 9) for name, (low, high) in intervals.items()}
    return {(CELL, name, column.prompts, column.metric): number for name, number in middle.items()}


def test_a_lead_is_marked_only_where_the_intervals_are_apart():
    target = COLUMNS[0]
    assert best(numbers_of(esd=(0.1, 0.2), uce=(0.3, 0.4)), CELL, target) == "esd"
    assert best(numbers_of(esd=(0.1, 0.35), uce=(0.3, 0.4)), CELL, target) is None
    assert best(numbers_of(esd=(0.1, 0.2), uce=(0.3, 0.4), eap=(0.15, 0.3)), CELL, target) is None
    assert best(numbers_of(esd=(0.1, 0.2)), CELL, target) is None


def test_the_references_are_no_contestants():
    numbers = numbers_of(none=(0.9, 1), oracle=(0, 0.01), esd=(0.1, 0.2), uce=(0.3, 0.4))
    assert best(numbers, CELL, COLUMNS[0]) == "esd"


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
