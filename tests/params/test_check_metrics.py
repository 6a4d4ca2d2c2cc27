"""Metrics that cannot judge what a study asks them are refused before the first job starts."""

from pathlib import Path

import pytest

from stages.params import study as studies
from stages.params.check import watched
from stages.params.check_metrics import check_metric
from tests.params.mini import change, refusal, study, write


def test_a_judge_without_its_weights_is_refused_with_what_belongs_there(params):
    study(params, ["q16"], backbones=["dit-shapes"])
    assert "params/metrics/q16.yaml: prompts is empty; name there prompts.p of Q16's repository" in refusal(params)
    study(params, ["painters"], backbones=["dit-shapes"])
    assert "params/metrics/painters.yaml: model or weights is empty; name there a folder or hub id" in refusal(params)
    study(params, ["resnet50"], backbones=["dit-shapes"])
    assert "no colour 'red', which the target of params/concepts/red.yaml asks for" in refusal(params)


def test_a_metrics_files_exist_and_are_watched(params: Path) -> None:
    change(params, "metrics/clip_frechet", real="data/yellow_crosses")
    with pytest.raises(ValueError, match="clip_frechet.yaml: real: no folder 'data/yellow_crosses'; did you mean"):
        check_metric("clip_frechet", params)
    change(params, "metrics/clip_frechet", real="data/yellow_cross")
    assert len(watched(check_metric("clip_frechet", params), params)) == 8
    linear = {"class": "stages.metrics.linear.LinearRates", "weights": "data/nothing.pt", "classes": ["red", "blue"]}
    write(params, "metrics/linear", linear)
    with pytest.raises(ValueError, match="linear.yaml: weights: no file 'data/nothing.pt'"):
        check_metric("linear", params)


def table(params: Path, header: str, *rows: str) -> None:
    """A concept `van_gogh` measured on a table of its own."""
    (params.parent / "data/styles.csv").write_text("\n".join([header, *rows]) + "\n")
    write(
        params,
        "concepts/van_gogh",
        {
            "prompts": ["a"],
            "neutral": ["b"],
            "retain": ["c"],
            "dataset": "data/styles.csv",
            "target": {"style": "van gogh"},
        },
    )
    study(params, ["clip_rates"], backbones=["sd14"], concepts=["van_gogh"], methods=["none"])


HEADER = "id,set,prompt,style,without_style,seed"


ROWS = ("0,full,a house by van gogh,van gogh,a house,0", "1,full,a house by monet,monet,a house,100")


def test_a_metric_that_cannot_name_the_concept_says_so_before_anything_runs(params: Path) -> None:
    table(params, HEADER, *ROWS)
    assert (
        "params/metrics/clip_rates.yaml: choices: no style 'van gogh', which the target of "
        "params/concepts/van_gogh.yaml asks for; have class: dog, cat"
    ) in refusal(params)
    change(params, "metrics/clip_rates", choices={"style": ["van gogh", "monet"]})
    assert studies.load_study("mini", params).runs


@pytest.mark.parametrize(
    ("header", "rows", "says"),
    [
        ("set,prompt,style,without_style,seed", ("full,a,van gogh,b,0",), "column 'id' is missing"),
        ("id,set,prompt,style,seed", ("0,full,a,van gogh,0",), "without_style"),
        (HEADER.replace("style", "styl"), ROWS, "no label 'style'"),
        (HEADER, ROWS[:1], "no retain prompts"),
    ],
)
def test_a_table_that_lacks_what_the_concept_needs_is_told_before_anything_runs(
    params: Path, header: str, rows: tuple[str, ...], says: str
) -> None:
    table(params, header, *rows)
    message = refusal(params)
    assert says in message and "data/styles.csv" in message


def test_a_judge_of_a_small_world_is_refused_on_a_real_checkpoint(params: Path) -> None:
    study(params, ["clip_rates", "drift"], backbones=["sd14"], concepts=["dog"], methods=["none"])
    says = refusal(params)
    assert "drift judges small worlds alone (shapes, scenes); sd14 is a finished checkpoint; for it: clip_fr" in says
