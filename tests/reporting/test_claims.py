"""Paired claims between methods, adjusted for how many there are, on the results of a study."""

import json

import pandas as pd
import pytest

from stages.reporting.claims import BEST, beating, claims, less, smallest_effect, tied
from stages.reporting.collected import FILTER
from stages.reporting.findings import findings
from stages.reporting.leaders import marks, reaching, tops
from stages.reporting.pooling import pooled
from stages.reporting.summary import concept_column
from tests.reporting.synthetic import KEPT, SEEN

METHODS = ("none", "esd", "esd_u", "uce", "random_weights", "word_filter", "oracle")


@pytest.fixture
def tree(make, monkeypatch):
    """Two methods that leave next to nothing, one that leaves half, and a word filter that leaves a third."""
    for name, share in {"esd": 0.04, "esd_u": 0.06, "uce": 0.6, "word_filter": 0.35}.items():
        monkeypatch.setitem(SEEN, name, share)
        monkeypatch.setitem(KEPT, name, 1.0)
    monkeypatch.setitem(KEPT, "none", 1.0)
    tree = make(METHODS, (0,), sizes={"concept": 96, "retain": 120})
    for path in tree.artifacts.rglob("metadata.jsonl"):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text("\n".join(json.dumps(row | {"prompt": f"{row['prompt']} {row['index']}"}) for row in rows))
    return tree


def measured(tree):
    study = tree.collect()
    numbers = pooled(study)
    return study, numbers | claims(study, numbers)


def test_methods_are_compared_with_the_word_filter_and_with_each_other_on_the_same_pictures(tree):
    study, numbers = measured(tree)
    assert set(beating(numbers, tree.cell)) == {"esd", "esd_u"}
    assert set(tops(study, numbers, tree.cell)) == {"esd", "esd_u"} and len(tied(numbers, tree.cell)) == 1
    gap = numbers[(tree.cell, "esd", "concept", less("target_rate", FILTER))]
    rates = [numbers[(tree.cell, name, "concept", "target_rate")].value for name in ("esd", FILTER)]
    assert gap.value == pytest.approx(rates[0] - rates[1]) and gap.low < gap.value < gap.high < 0
    worse = numbers[(tree.cell, "uce", "concept", less("target_rate", BEST))]
    assert worse.value > 0 and worse.low > 0 and worse.p < 0.05
    assert 0.05 < smallest_effect(numbers, tree.cell) < 0.4
    assert set(reaching(study, numbers, tree.cell)) == {"esd", "esd_u"}


def test_the_more_claims_a_table_makes_the_stronger_each_must_be(tree):
    study, numbers = measured(tree)
    key = (tree.cell, "uce", "concept", less("target_rate", FILTER))
    few = [result for result in study.results if result.method in ("none", FILTER, "uce")]
    alone = claims(type(study)(**{**vars(study), "results": tuple(few)}), numbers)
    assert numbers[key].p > alone[key].p


def test_the_table_says_who_beats_the_word_filter_and_the_references_come_first(tree):
    assert tree.report() == 0
    text = tree.text("tables/tiny-sd-shapes-red.md")
    names = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("|")]
    assert names[2:9] == ["none", "word_filter", "random_weights", "esd", "esd_u", "uce", "oracle"]
    assert "| Against the word filter ↓ | verdict |" in text and "Smallest effect: a difference of" in text
    assert "points between two methods" in text and "| erased, rest kept |" in text
    assert "at most 25% of what there was to erase, (rate - oracle) / (unedited - oracle)" in text
    study, numbers = measured(tree)
    assert "2 of 3 methods beat the word filter: " in " ".join(findings(study, numbers, tree.cell))
    assert marks(study, numbers, tree.cell)[concept_column(tree.cell)] == tops(study, numbers, tree.cell)
    assert "| method | Left above the oracle ↓ |" in text
    left = numbers[(tree.cell, "esd", "concept", "target_left_share")]
    one, oracle, none = (numbers[(tree.cell, m, "concept", "target_rate")].value for m in ("esd", "oracle", "none"))
    assert left.value == pytest.approx((one - oracle) / (none - oracle)) and left.low < left.value < left.high < 0.25
    page = tree.text("report/index.html")
    assert "beat the word filter" in page and '<th scope="col">Verdict</th>' in page
    table = pd.read_csv(tree.artifacts / "tables/results.csv")
    rows = table[table["metric"] == less("target_rate", FILTER)]
    assert set(rows["method"]) == {"esd", "esd_u", "uce", "random_weights", "oracle"} and set(rows["seed"]) == {"all"}


def test_a_clear_picture_stands_beside_how_often_the_concept_is_seen(make):
    tree = make(("none", "esd"), (0,))
    for path in tree.artifacts.rglob("rates.json"):
        content = json.loads(path.read_text())
        content["samples"]["concept"]["coherent"] = [0, 1] * 6
        content["rows"].append(content["rows"][0] | {"prompts": "concept", "metric": "coherent_rate"})
        path.write_text(json.dumps(content))
    assert tree.report() == 0
    table = tree.text("tables/tiny-sd-shapes-red.md")
    assert "| method | Concept seen ↓ | Clear picture without it ↑ | Rest kept ↑ | verdict |" in table
