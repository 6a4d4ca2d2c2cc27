"""The words of the page follow from the numbers."""

import pytest

from stages.reporting import findings, formats, tables
from stages.reporting.collected import Cell, Collected, Result
from stages.reporting.numbers import Number

CELL = Cell("sd-shapes", "red", "erase", "target_rate")


def study_of(cells=(CELL,), **rates):
    """A study and its numbers from method=(concept seen, retained right), each +- 0.02."""
    results = [Result(cell, name, 0, None, None, (), {}, {}, cell.backbone) for cell in cells for name in rates]
    study = Collected("tiny", "", tuple(results), (), {}, {})
    numbers = {}
    for cell in cells:
        for name, pair in rates.items():
            for key, value in zip((("concept", "target_rate"), ("retain", "joint_rate")), pair, strict=True):
                numbers[(cell, name, *key)] = Number(value, value - 0.02, value + 0.02, 100)
    return study, numbers


def said(**rates):
    return " ".join(findings.findings(*study_of(**rates), CELL))


def test_the_leader_is_the_strongest_of_those_that_keep_the_rest():
    text = said(none=(0.98, 0.97), esd=(0.1, 0.96), uce=(0.02, 0.6), oracle=(0.01, 0.98))
    assert text.startswith("esd takes red from 98% to 10% of its prompts (95% interval 8 to 12%), with 96%")
    assert "1 of 2 methods are shown to leave 25.2% or less with the rest kept within 5 points: esd." in text
    assert "uce erases more (2% left) but keeps only 60% right." in text
    assert "The oracle, trained from scratch without red, shows it in 1%." in text


def test_a_study_in_which_nothing_is_kept_says_so():
    assert said(none=(0.98, 0.97), esd=(0.1, 0.5)).startswith(
        "No method is shown to keep the retained prompts within 5 points; esd"
    )
    assert "No method but the references" in said(none=(0.98, 0.97))


def test_a_study_that_measures_no_rate_says_what_is_missing():
    study, _ = study_of(none=(0, 0), esd=(0, 0))
    numbers = {(CELL, name, "concept", "clip_score"): Number(30, 29, 31, 100) for name in ("none", "esd")}
    assert "a metric such as rates or clip_rates does" in " ".join(findings.findings(study, numbers, CELL))
    assert tables.tradeoff(study, numbers).columns[:4].tolist() == ["backbone", "concept", "method", "erasure"]


def test_the_headline_counts_the_tables_of_a_larger_study():
    cells = (CELL, Cell("flux-shapes", "red", "erase", "target_rate"))
    study, numbers = study_of(cells, none=(0.98, 0.97), esd=(0.1, 0.96))
    numbers[(cells[1], "esd", "concept", "target_rate")] = Number(0.5, 0.4, 0.6, 100)
    assert findings.headline(study, numbers).startswith("In 1 of 2 tables")
    assert findings.title(study) == "Erasing red from 2 generators"


@pytest.mark.parametrize(
    ("value", "metric", "text"),
    [(0.09375, "target_rate", "9.4%"), (1.0, "joint_rate", "100%"), (-0.875, "target_rate_change", "-87.5 points"),
     (-0.0, "joint_rate_change", "+0.0 points"), (-0.5, "clip_score_change", "-0.5"),
     (0.03456, "pixel_drift", "0.0346")],
)  # fmt: skip
def test_a_value_reads_as_its_metric_is_read(value, metric, text):
    assert formats.written(value, metric) == text


def test_lists_and_durations_read_as_words():
    assert (
        formats.listed(["a"]) == "a"
        and formats.listed(["a", "b"]) == "a and b"
        and formats.listed("abc") == "a, b and c"
    )
    assert [formats.duration(s) for s in (41, 720, 11520)] == ["41 s", "12 min", "3.2 h"]
