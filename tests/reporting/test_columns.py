"""The columns of the tables come from the metrics and from what is in the results."""

import json

import pytest

from stages.metrics.base import Column
from stages.reporting.collected import Cell
from stages.reporting.pooling import pooled
from stages.reporting.summary import columns, of_published


def with_metric(tree, name: str, content: dict) -> None:
    """Adds a metric's file to every run of a study, and its name to the study's."""
    study = tree.params / "studies/tiny.yaml"
    study.write_text(study.read_text().replace("- drift", f"- drift\n- {name}"))
    (tree.params / f"metrics/{name}.yaml").write_text("class: stages.metrics.drift.Drift\n")
    for path in list(tree.artifacts.rglob("metrics/tiny")):
        (path / f"{name}.json").write_text(json.dumps({"metric": name} | content))


def row(prompts: str, metric: str, value: float) -> dict:
    return {"prompts": prompts, "metric": metric, "value": value, "ci_low": None, "ci_high": None, "n": 12}


def test_a_metric_that_declares_nothing_gets_a_column_for_each_of_its_numbers(make):
    tree = make(("none", "esd"), (0,))
    rows = [row("concept", "ssim", 0.5), row("retain", "ssim", 0.875), row("retain", "ssim_change", 0.0)]
    with_metric(tree, "ssim", {"rows": rows, "samples": {}})
    assert tree.report() == 0
    table = tree.text("tables/tiny-sd-shapes-red.md")
    assert "| Ssim (concept) | Ssim (retain) |" in table and "0.875" in table and "Ssim change" not in table
    page = tree.text("report/index.html")
    assert 'data-metric="ssim"' in page and '<th scope="col">Ssim (retain)</th>' in page


def test_declared_columns_are_shown_in_the_order_of_the_study_and_for_their_aim(make):
    tree = make(("none", "esd"), (0,))
    asked = [Column("retain", "ssim", "Likeness", "high"), Column("retain", "hue", "Hue", "high", aim="learn")]
    rows = [row("retain", "ssim", 0.5), row("retain", "hue", 0.5), row("concept", "ssim", 0.5)]
    with_metric(tree, "ssim", {"rows": rows, "samples": {}, "columns": [vars(column) for column in asked]})
    study = tree.collect()
    labels = [column.label for column in columns(study, pooled(study), tree.cell)]
    assert labels == [
        *(
            "Concept seen",
            "Rest kept",
            "Retained colour",
            "Retained shape",
            "Fréchet to unedited",
            "Pixel drift",
            "Likeness",
        )
    ]


def test_two_metrics_with_numbers_of_one_name_are_told_apart(make):
    tree = make(("none", "esd"), (0,))
    rows = [row("concept", "target_rate", 0.25)]
    outcomes = {"concept": {"target": [1, 0, 0, 0] * 3}}
    with_metric(tree, "clip_rates", {"rows": rows, "samples": outcomes, "seen": "target"})
    study = tree.collect()
    numbers = pooled(study)
    other, first = (numbers[(tree.cell, "esd", "concept", name)] for name in ("clip_rates_target_rate", "target_rate"))
    assert (other.value, other.n) == (0.25, 12) and first.n == 12
    assert tree.cell.seen == "target_rate" and study.results[1].outcomes["concept"]["clip_rates_target"][0] == 1


def test_a_caveat_is_said_once_in_the_log_and_stands_under_the_tables(make, caplog):
    tree = make()
    caveat = "frechet: 12 samples of 64 features: the covariance lacks rank, compare loosely"
    for path in tree.artifacts.rglob("frechet.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"caveat": caveat}))
    assert tree.report() == 0
    assert caplog.text.count("lacks rank") == 1
    assert caveat in tree.text("tables/tiny-sd-shapes-red.md") and caveat in tree.text("report/index.html")


def test_samples_that_do_not_fit_their_outcomes_are_refused(make):
    tree = make(("none", "esd"), (0,))
    path = tree.artifacts / "runs/sd-shapes/red/esd/0/samples/tiny/concept/metadata.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(ValueError, match="11 samples, but 12 outcomes"):
        pooled(tree.collect())


def test_every_set_of_published_prompts_has_a_column_of_how_often_the_concept_is_seen():
    cell = Cell("sd14", "nudity", "erase", "nudity_rate")
    keys = [(prompts, "nudity_rate") for prompts in ("concept", "retain", "neutral", "ring79", "mma1000")]
    keys += [("ring79", "clip_score"), ("unlearndiffatk", "attack_rate")]
    assert of_published(keys, cell) == [
        Column("mma1000", "nudity_rate", "Seen on mma1000", "low"),
        Column("ring79", "nudity_rate", "Seen on ring79", "low"),
    ]
