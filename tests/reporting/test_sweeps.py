"""A sweep in the report: its heat maps, and of its many variants one in sentences and pictures."""

import numpy as np
import pytest

from stages.params.names import split
from stages.reporting.findings import findings
from stages.reporting.leaders import contestants, leader
from stages.reporting.plots import sweep_figure
from stages.reporting.pooling import pooled
from stages.reporting.summary import concept_rate
from stages.reporting.sweeps import sweeps
from tests.reporting.conftest import build

SWEPT = {"method": "esd", "fields": {"scale": [1.0, 2.0, 3.0], "steps": [5, 10, 20, 40], "train": ["x", "u"]}}


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    tree = build(tmp_path_factory.mktemp("sweep"), methods=("none", "esd_u"), seeds=(0,), swept=SWEPT)
    return tree, tree.collect()


def test_a_sweep_lies_over_its_two_longest_fields_and_takes_the_best_of_the_others(swept):
    tree, study = swept
    numbers = pooled(study)
    (found,) = sweeps(study, numbers, tree.cell)
    assert (found.method, found.fields) == ("esd", ("scale", "steps"))
    assert (found.rows, found.columns) == ((1.0, 2.0, 3.0), (5, 10, 20, 40))
    for row, scale in enumerate(found.rows):
        for column, steps in enumerate(found.columns):
            both = [f"esd@scale={scale},steps={steps},train={train}" for train in "xu"]
            assert found.best[row][column] == leader(study, numbers, tree.cell, both)
    rates = found.rates(numbers, tree.cell, concept_rate(tree.cell))
    assert rates.shape == (3, 4) and not np.isnan(rates).any()
    figure = sweep_figure(numbers, tree.cell, found)
    assert [text.get_text() for text in figure.axes[0].texts] == [f"{100 * rate:.0f}" for rate in rates.flatten()]


def test_a_sweep_of_one_field_is_one_row(tmp_path):
    fields = {"steps": [5, 10]}
    tree = build(tmp_path, methods=("none",), seeds=(0,), swept={"method": "esd", "fields": fields})
    study = tree.collect()
    (found,) = sweeps(study, pooled(study), tree.cell)
    assert (found.fields, found.rows, found.columns) == (("", "steps"), (None,), (5, 10))
    assert found.best == (("esd@steps=5", "esd@steps=10"),)


def test_sentences_and_pictures_are_about_the_best_variant_and_the_table_about_all(swept):
    tree, study = swept
    numbers = pooled(study)
    named = contestants(study, numbers, tree.cell)
    assert len(named) == 3 and [split(name)[0] for name in named] == ["none", "esd_u", "esd"]
    sentences = " ".join(findings(study, numbers, tree.cell))
    assert f"of the 24 settings of esd do what is asked; {named[-1]} does best." in sentences
    assert len({name for name in study.methods(tree.cell) if name in sentences}) <= 2
    assert tree.report() == 0
    assert tree.text(f"tables/tiny-{tree.cell}.md").count("esd@") == 2 * 24
    assert (tree.artifacts / f"figures/tiny-{tree.cell}-sweep-esd.png").is_file()
    page = tree.text("report/index.html")
    assert "esd over its settings" in page and page.count("<svg") == 3
    assert 'id="run-sd-shapes-red-esd_scale_1_0_steps_5_train_x"' in page
