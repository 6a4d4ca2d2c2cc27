"""Whatever can be known to be wrong before the first job starts is said before the first job starts."""

from pathlib import Path
from typing import get_args

import pytest

from stages.params import construct, names
from stages.params import study as studies
from stages.params.check import check_backbone, check_concept, checked, watched
from stages.params.check_methods import check_attack, check_method
from stages.params.check_metrics import check_metric
from stages.params.types import Kind
from tests import ROOT
from tests.params.mini import change, refusal, study

CHECKS = {"backbones": check_backbone, "methods": check_method, "attacks": check_attack, "metrics": check_metric}


@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, name) for kind in CHECKS for name in names(kind, ROOT / "params")],
    ids=lambda value: value,
)
def test_every_file_of_the_project_is_sound_by_itself(kind: str, name: str) -> None:
    CHECKS[kind](name, ROOT / "params")


@pytest.mark.parametrize("name", names("concepts", ROOT / "params"))
def test_every_concept_of_the_project_can_be_measured(name: str) -> None:
    check_concept(name, ["concept", "retain"], ROOT / "params")


@pytest.mark.parametrize("name", names("concepts", ROOT / "params"))
def test_every_concept_of_the_project_says_its_kind(name: str) -> None:
    assert checked("concepts", name, ROOT / "params")["kind"] in get_args(Kind)


@pytest.mark.parametrize(
    ("name", "keys", "says"),
    [
        (
            "methods/esd",
            {"backbones": {"sd14": {"steps": 5}}},
            "methods/esd.yaml: backbones: what differs on a small world stands in params/tuned/esd.yaml by world "
            "and architecture, on a finished checkpoint in params/adapted/esd.yaml by its name",
        ),
        ("tuned/esd", {"shape": {"sd": {}}}, "tuned/esd.yaml: unknown key 'shape'; did you mean shapes?"),
        ("tuned/esd", {"shapes": {"fluxx": {}}}, "esd.yaml: unknown key 'fluxx' in shapes; did you mean flux?"),
        (
            "tuned/esd",
            {"shapes": {"flux": {"stpes": 5}}},
            "esd.yaml: shapes: flux: unknown key 'stpes'; did you mean steps?",
        ),
        (
            "tuned/esd",
            {"scenes": {"flux": {"object": {"steps": -5}}}},
            "tuned/esd.yaml: scenes: flux: object: steps: Input should be greater than 0",
        ),
        (
            "tuned/esd",
            {"shapes": {"flux": {"style": {"states": "frozen", "guidance": 3.5}}}},
            "tuned/esd.yaml: shapes: flux: style: guidance has no effect with states: frozen",
        ),
        ("methods/esd", {"families": ["unett", "unet"]}, "families: no family 'unett'; did you mean unet?"),
        ("methods/esd", {"concepts": ["redd", "red"]}, "concepts: no concept 'redd'; did you mean red?"),
        ("methods/esd", {"train": "fulll"}, "'full', 'notime', 'xlayer', 'selflayer', 'cross-attn', 'attn' or"),
        ("methods/esd", {"train": "fulll"}, "got 'fulll'; did you mean full?"),
        (
            "methods/esd",
            {"schedule": "cosin"},
            "schedule: Input should be 'constant', 'cosine' or 'linear', got 'cosin'",
        ),
        ("methods/esd", {"states": "teacher"}, "states: Input should be 'student', 'frozen' or 'fresh', got 'teacher'"),
        ("methods/esd", {"like": "esdd"}, "like: no method 'esdd'; did you mean esd?"),
        ("methods/none", {"class": "stages.methods.none.Nothing"}, "no class 'Nothing' in stages/methods/none.py"),
        (
            "backbones/sd-shapes",
            {"family": "unett"},
            "backbones/sd-shapes.yaml: family: no family 'unett'; did you mean unet?",
        ),
        ("backbones/sd-shapes", {"family": "dit"}, "stages.backbones.unet.UNet is of the family unet, got 'dit'"),
        (
            "backbones/sd-shapes",
            {"class": "stages.backbones.unet.UNett"},
            "no class 'UNett' in stages/backbones/unet.py; did you",
        ),
        ("backbones/sd-shapes", {"like": "sd-shap"}, "like: no backbone 'sd-shap'; did you mean"),
        (
            "concepts/red",
            {"dataset": "data/shapes_colour.csv"},
            "dataset: no file 'data/shapes_colour.csv'; did you mean data/shapes_colors.csv?",
        ),
        ("concepts/red", {"target": {"coluor": "red"}}, "no label 'coluor'"),
        ("concepts/red", {"target": {"colour": "redd"}}, "no prompts with colour 'redd'"),
        ("concepts/red", {"aim": "erasee"}, "aim: "),
        (
            "concepts/red",
            {"kind": "colour"},
            "red.yaml: kind: 'colour' is not one of ['attribute', 'object', ",
        ),
        (
            "metrics/rates",
            {"class": "stages.metrics.rates.Ratess"},
            "no class 'Ratess' in stages/metrics/rates.py; did you mean Rates?",
        ),
        ("metrics/rates", {"drawss": 10}, "metrics/rates.yaml: unknown key 'drawss'; did you mean draws?"),
    ],
)
def test_what_does_not_exist_or_fit_is_told_with_the_nearest(params: Path, name: str, keys: dict, says: str) -> None:
    change(params, name, **keys)
    assert says in refusal(params)


def test_a_word_of_a_named_type_is_told_all_that_the_type_takes_in_the_job_as_well() -> None:
    from stages.methods.esd import ESD

    with pytest.raises(ValueError, match="train: Input should be 'x', .*'full'.* got 'fulll'; did you mean full?"):
        construct(ESD, {"train": "fulll"}, "here")


@pytest.mark.parametrize(
    ("method", "key", "file", "near"),
    [
        ("circuit_breaker_documented", "data", "data/my_prompt.csv", "data/my_prompts.csv"),
        ("textual_inversion", "data", "data/yellow_crosses", "data/yellow_cross"),
        ("t2vunlearning", "data", "data/my_prompt.csv", "data/my_prompts.csv"),
        ("prototype_steering", "setup", "data/my_prompt.csv", "data/my_prompts.csv"),
    ],
)
def test_a_file_that_a_field_names_exists_and_is_watched(
    params: Path, method: str, key: str, file: str, near: str
) -> None:
    (params.parent / "data/my_prompts.csv").write_text("prompt,normal prompt\na,b\n")
    change(params, f"methods/{method}", **{key: file})
    with pytest.raises(ValueError, match=f"{key}: no (file|folder) '{file}'; did you mean {near}?"):
        check_method(method, params)
    change(params, f"methods/{method}", **{key: near})
    content = check_method(method, params)
    path = params.parent / near
    assert watched(content, params) == sorted(map(str, path.iterdir() if path.is_dir() else [path]))


def test_a_table_of_the_concept_is_there_right_apart_from_what_is_measured_and_watched(params: Path) -> None:
    study(params, methods=["none", "uce"])
    change(params, "methods/uce", data="data/mine/{concept}.csv")
    wanted = "wanted is a CSV or JSON with the columns prompt and normal prompt"
    said = f"uce.yaml: data: for the concept red: no file 'data/mine/red.csv'; {wanted}"
    assert said in refusal(params)
    table = params.parent / "data/mine/red.csv"
    table.parent.mkdir()
    table.write_text("prompt,shown\na red thing,1\n")
    assert "red.csv: no column 'normal prompt' or " in (said := refusal(params)) and said.endswith(wanted)
    table.write_text("prompt,normal prompt\na red thing,a thing\na drawing of a red circle,a drawing of it\n")
    assert "red.csv: 'a drawing of a red circle': measured on data/shapes_colors.csv, too (concept)" in refusal(params)
    table.write_text("prompt,normal prompt\na red thing,a thing\n")
    studies.load_study("mini", params)
    assert watched(check_method("uce", params), params, concept="red") == [str(table)]
    assert "uce" in studies.fitting("sd-shapes", "red", params)
    assert "uce" not in studies.fitting("sd-shapes", "circle", params)  # whose table is not there


@pytest.mark.parametrize(
    ("method", "file", "text", "says"),
    [
        ("esd", "mine.json", '["a red thing"]', ""),
        ("esd", "mine.csv", "text\na red thing\n", ""),
        (
            "esd",
            "mine.csv",
            "shown\na red thing\n",
            "no column 'prompt' or .*; have: shown; wanted is ",
        ),
        ("uce", "mine.csv", "prompt\na red thing\n", "no column 'normal prompt' or .*; have: prompt; wanted is "),
        ("circuit_breaker", "mine.json", '{"red_prompts": ["a red thing"]}', ""),
        ("circuit_breaker", "mine.csv", "prompt\na red thing\n", "no column 'normal prompt'"),
        ("textual_inversion", "mine", "notes.txt", "no picture in it; a folder of pictures is wanted"),
    ],
)
def test_what_a_file_holds_is_looked_at(params: Path, method: str, file: str, text: str, says: str) -> None:
    path = params.parent / "data" / file
    if method == "textual_inversion":
        path.mkdir()
        (path / text).write_text("no picture")
    else:
        path.write_text(text)
    change(params, f"methods/{method}", data=f"data/{file}")
    if not says:
        check_method(method, params)
        return
    with pytest.raises(ValueError, match=f"{method}.yaml: data: .*{file}.*{says}"):
        check_method(method, params)


def test_a_sentence_with_a_stroke_in_it_is_no_file(params: Path) -> None:
    change(params, "methods/textual_inversion", initialiser=f"a {'very ' * 60}old cat and/or dog")
    files = watched(check_method("textual_inversion", params), params, concept="yellow_cross")
    assert len(files) == 8 and all("data/yellow_cross/" in path for path in files)


def test_a_file_that_is_changed_is_read_again(params: Path) -> None:
    assert checked("methods", "esd", params)["steps"] == 1000
    change(params, "methods/esd", steps=7)
    assert checked("methods", "esd", params)["steps"] == 7
    checked("methods", "esd", params)["steps"] = 9
    assert checked("methods", "esd", params)["steps"] == 7
