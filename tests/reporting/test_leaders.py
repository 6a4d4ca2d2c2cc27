"""No congratulation where the unedited model leaves nothing to do."""

from dataclasses import replace

import pytest

from stages.metrics.base import Column
from stages.reporting.bars import FLOOR, comparable, goal
from stages.reporting.collected import Cell
from stages.reporting.findings import findings, headline
from stages.reporting.leaders import best, marks, reaching
from stages.reporting.numbers import Number
from stages.reporting.overview import matrix
from stages.reporting.pooling import pooled
from stages.reporting.tables import results, versions
from tests.reporting.conftest import SEEDS
from tests.reporting.test_findings import CELL, study_of

DRIFT = Column("retain", "pixel_drift", "Pixel drift", "low", unedited=True)
LEARN = replace(CELL, aim="learn")


def drifting(study, numbers, **drifts):
    """The study with a drift of each method, and its column."""
    for name, value in drifts.items():
        numbers[(study.cells()[0], name, *("retain", "pixel_drift"))] = Number(value, value - 0.001, value + 0.001, 100)
    return replace(study, columns=(DRIFT,)), numbers


def test_a_concept_that_the_unedited_model_does_not_show_is_nothing_to_compare():
    study, numbers = study_of(none=(0.0, 0.0), esd=(0.0, 0.0), uce=(0.5, 0.9))
    (sentence,) = findings(study, numbers, CELL)
    assert sentence.startswith("The unedited model does not show red: nothing to compare. It is seen in 0%")
    assert headline(study, numbers) == sentence
    assert reaching(study, numbers, CELL) == [] and "**" not in matrix(study, numbers).split("| none", 1)[1]


@pytest.mark.parametrize(("before", "open_"), [(0.0, False), (FLOOR - 0.01, False), (FLOOR, True), (0.98, True)])
def test_the_floor_decides(before, open_):
    study, numbers = study_of(none=(before, 0.9), esd=(0.0, 0.9))
    assert comparable(numbers, CELL) == open_
    assert reaching(study, numbers, CELL) == (["esd"] if open_ else [])
    assert comparable({}, CELL)


def test_what_erasing_asks_for_is_a_quarter_of_what_the_unedited_model_shows_without_an_oracle():
    study, numbers = study_of(none=(0.4, 0.9), esd=(0.15, 0.9), uce=(0.07, 0.9))
    assert goal(numbers, CELL) == pytest.approx(0.1) and reaching(study, numbers, CELL) == ["uce"]
    assert "1 of 2 methods are shown to leave 10% or less" in " ".join(findings(study, numbers, CELL))


def test_methods_that_erase_nothing_are_not_said_to_take_the_concept_down():
    text = " ".join(findings(*study_of(none=(0.3, 0.9), esd=(0.3, 0.9), uce=(0.4, 0.9)), CELL))
    assert text.startswith(
        "No method shows red less often than the unedited model (30% of its prompts); esd shows it in"
    )


def test_a_word_that_the_unedited_model_draws_already_is_nothing_to_learn():
    study, numbers = study_of((LEARN,), none=(0.9, 0.9), textual_inversion=(0.95, 0.9))
    assert "already, in 90% of its prompts: nothing to compare" in findings(study, numbers, LEARN)[0]
    assert reaching(study, numbers, LEARN) == []
    study, numbers = study_of((LEARN,), none=(0.0, 0.9), textual_inversion=(0.95, 0.9))
    assert reaching(study, numbers, LEARN) == ["textual_inversion"]


def test_tables_without_anything_to_compare_do_not_count_in_the_headline():
    cells = (CELL, Cell("flux-shapes", "red", "erase", "target_rate"))
    study, numbers = study_of(cells, none=(0.98, 0.97), esd=(0.1, 0.96))
    numbers[(cells[1], "none", "concept", "target_rate")] = Number(0.0, 0.0, 0.02, 100)
    text = headline(study, numbers)
    assert text.startswith("In 1 of 1 table at least") and "In 1 table the unedited model leaves nothing" in text


def test_the_least_drift_is_marked_only_for_a_method_that_does_what_is_asked():
    for erased, lead in ((0.9, None), (0.1, "uce")):
        study, numbers = study_of(none=(0.98, 0.97), esd=(0.1, 0.96), uce=(erased, 0.96))
        study, numbers = drifting(study, numbers, esd=0.05, uce=0.01)
        assert best(numbers, CELL, DRIFT) == "uce" and marks(study, numbers, CELL)[DRIFT] == ((lead,) if lead else ())


def test_nothing_is_marked_in_a_table_without_anything_to_compare():
    study, numbers = study_of(none=(0.0, 0.97), esd=(0.0, 0.96), uce=(0.6, 0.96))
    study, numbers = drifting(study, numbers, esd=0.05, uce=0.01)
    assert set(marks(study, numbers, CELL).values()) == {()}


def test_a_column_without_a_better_side_has_no_best():
    study, numbers = drifting(*study_of(none=(0.9, 0.9), esd=(0.1, 0.9), uce=(0.2, 0.9)), esd=0.05, uce=0.01)
    assert best(numbers, CELL, replace(DRIFT, better="")) is None


def test_a_cell_cannot_be_made_without_its_aim_nor_stand_for_one_of_another_aim():
    with pytest.raises(TypeError):
        Cell("sd-shapes", "red")
    _, numbers = study_of((LEARN,), none=(0.1, 0.9))
    assert (CELL, "none", "concept", "target_rate") not in numbers
    assert {place.aim for place, *_ in numbers} == {"learn"}


def test_a_table_says_by_which_protocol_it_was_measured(done):
    """None for results from before there was one; every version if runs differ."""
    study = done.collect()
    assert versions(study.results) == "none"
    told = [replace(result, records={"evaluate": {"protocol": i % 2 + 1}}) for i, result in enumerate(study.results)]
    assert versions(told) == "1, 2"
    assert "Protocol: 1." in matrix(replace(study, results=tuple(told[::2])), pooled(study))


def test_every_row_of_the_results_says_by_which_protocol_it_was_measured(done):
    study = done.collect()
    records = {seed: {"evaluate": {"protocol": 1 + position}} for position, seed in enumerate(SEEDS)}
    told = replace(study, results=tuple(replace(result, records=records[result.seed]) for result in study.results))
    rows = results(told, pooled(told))
    assert set(rows["protocol"][rows["seed"] == str(SEEDS[1])]) == {"2"}
    assert set(rows["protocol"][rows["seed"] == "all"]) == {", ".join(str(1 + i) for i in range(len(SEEDS)))}
