"""Tidy rows, pooled numbers, and which lead is marked."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml

from stages.metrics.proportions import rate_interval
from stages.reporting.collected import Cell
from stages.reporting.leaders import best
from stages.reporting.numbers import Number
from stages.reporting.pooling import pooled
from stages.reporting.summary import concept_column
from tests.reporting.conftest import METHODS, SEEDS
from tests.reporting.synthetic import write_run

HEADER = "study,backbone,family,concept,method,seed,prompts,metric,value,ci_low,ci_high,n,protocol"
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
    pooled_rows = select(table, seed="all")
    claimed = pooled_rows["metric"].str.contains("_less_|_left_share")
    assert claimed.any() and (~claimed).sum() * len(SEEDS) == len(table) - len(pooled_rows)


def renamed(tree, prompt: Callable[[int, int], str]) -> Number:
    """The pooled rate of esd when image i of a seed has the prompt `prompt(seed, i)`."""
    for seed in SEEDS:
        path = Path(f"{tree.artifacts}/runs/sd-shapes/red/esd/{seed}/samples/tiny/concept/metadata.jsonl")
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        lines = [json.dumps(row | {"prompt": prompt(seed, i)}) for i, row in enumerate(rows)]
        path.write_text("\n".join(lines))
    return pooled(tree.collect())[(CELL, "esd", "concept", "target_rate")]


def test_a_pooled_rate_is_the_share_of_all_pictures_and_of_two_seeds_both_stand_there(make):
    tree = make(("none", "esd"))
    for result in tree.collect().results:
        path = result.folder / "metrics" / "tiny" / "rates.json"
        content = json.loads(path.read_text())
        content["samples"]["concept"]["target"] = [int(i % 3 == 0 or i < 4 * result.seed) for i in range(12)]
        for row in content["rows"]:
            if (row["prompts"], row["metric"]) == ("concept", "target_rate"):
                row["value"] = 0.999  # what is stored of the whole is not what is printed
        path.write_text(json.dumps(content))
    own, same = renamed(tree, lambda seed, i: f"{i}"), renamed(tree, lambda seed, i: "one")
    assert all(number.n == 24 and number.value == pytest.approx(10 / 24) for number in (own, same))
    assert [part.value for part in own.parts] == pytest.approx([4 / 12, 6 / 12])
    alone = rate_interval((torch.arange(12) % 3 == 0).double(), torch.arange(12))
    assert own.low == pytest.approx(alone[0]) and same.high - same.low > own.high - own.low
    assert tree.report() == 0
    assert "41.7% (33.3 · 50%)" in tree.text("tables/tiny-sd-shapes-red.md")


def test_a_rate_whose_pictures_are_not_known_has_no_interval_of_its_own(make):
    tree = make(("none", "esd"))
    for path in tree.artifacts.rglob("rates.json"):
        content = json.loads(path.read_text())
        rows = [row | {"ci_low": None, "ci_high": None} for row in content["rows"]]
        path.write_text(json.dumps(content | {"samples": {}, "rows": rows}))
    number = pooled(tree.collect())[(CELL, "none", "concept", "target_rate")]
    assert number.low <= number.value <= number.high


def test_a_pooled_change_rests_on_the_same_pictures_of_the_same_backbone(done):
    study = done.collect()
    numbers = pooled(study)
    same = numbers[(CELL, "none", "concept", "target_rate_change")]
    assert (same.value, same.n) == (0, 24) and same.low < -0.1 and same.high > 0.1
    change = numbers[(CELL, "oracle", "concept", "target_rate_change")]
    assert change.low < -0.5 and change.high < 0


def test_a_table_knows_the_chance_of_its_concept_in_its_world(done):
    (cell,) = done.collect().cells()
    assert cell.chance == 0.25


def test_backbones_of_one_architecture_are_pooled_in_one_table(make):
    tree = make(("none", "esd"), (0,))
    for trained in (0, 1):
        write_backbone(tree, f"sd-seed-{trained}", architecture="sd", trained=trained)
        for method in ("none", "esd"):
            write_run(tree.artifacts, (f"sd-seed-{trained}", "red", method, 0), "tiny")
    path = tree.params / "studies" / "tiny.yaml"
    path.write_text(path.read_text().replace("- sd-shapes", "- sd-seed-0\n  - sd-seed-1"))
    study = tree.collect()
    (cell,) = study.cells()
    assert cell.backbone == "sd-shapes" and study.backbones(cell) == ["sd-seed-0", "sd-seed-1"]
    number = pooled(study)[(cell, "esd", "concept", "target_rate")]
    assert len(number.parts) == 2 and number.n == 24
    assert tree.report() == 0
    table = pd.read_csv(io.StringIO(tree.text("tables/results.csv")), dtype={"seed": str})
    assert set(select(table, seed="0")["backbone"]) == {"sd-seed-0", "sd-seed-1"}
    assert set(select(table, seed="all")["backbone"]) == {"sd-shapes"}
    assert "sd-seed-1 0" in tree.text("report/index.html")


def write_backbone(tree, name, **fields):
    content = yaml.safe_load((tree.params / "backbones" / "sd-shapes.yaml").read_text()) | fields
    (tree.params / "backbones" / f"{name}.yaml").write_text(yaml.safe_dump(content))


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
    assert rows == [*METHODS, "method", "---", *METHODS]
    assert sum("184,320" in line for line in lines) == 3 and any(line.startswith("Bold: ") for line in lines)


def test_the_tables_for_dvc_hold_the_headline_numbers(done, table):
    plot = pd.read_csv(io.StringIO(done.text("tables/tradeoff.csv")))
    seen = select(table, method="esd", seed="all", prompts="concept", metric="target_rate").iloc[0]
    row = select(plot, method="esd").iloc[0]
    assert row["erasure"] == pytest.approx(1 - seen["value"], rel=1e-5)
    assert row["erasure_low"] == pytest.approx(1 - seen["ci_high"], abs=1e-5)
    summary = pd.read_json(io.StringIO(done.text("tables/summary.json")), typ="series")
    assert summary["sd-shapes.red.esd.concept_target_rate"] == pytest.approx(seen["value"], abs=1e-5)
