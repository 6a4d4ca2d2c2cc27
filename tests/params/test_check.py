"""Whatever can be known to be wrong before the first job starts is said before the first job starts."""

import shutil
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
from tests.params.mini import STUDY, change, refusal, write


def study(params: Path, metrics: list[str] | None = None, **cell: object) -> None:
    write(params, "studies/mini", STUDY | {"cells": [STUDY["cells"][0] | cell], "metrics": metrics or ["rates"]})


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


def test_an_attacks_class_exists(params: Path) -> None:
    study(params, attacks=["ring_a_bell"])
    change(params, "attacks/ring_a_bell", **{"class": "stages.attacks.ring_a_bell.Ring"})
    assert "no class 'Ring' in stages/attacks/ring_a_bell.py" in refusal(params)


def test_an_attack_needs_a_family_that_it_works_on_and_a_metric_that_sees(params: Path) -> None:
    study(params, backbones=["dit-shapes"], concepts=["red_class"], attacks=["ring_a_bell"])
    assert "ring_a_bell works on unet, mmdit, " in refusal(params)
    study(params, ["drift", "frechet"], attacks=["ring_a_bell"])
    said = refusal(params)
    assert "attacks need a metric that sees the concept (clip_rates, i2p, nudenet, " in said
    assert "rates, resnet50, resnet50_torchvision), got drift, frechet" in said


def test_a_judge_without_its_weights_is_refused_with_what_belongs_there(params):
    study(params, ["q16"], backbones=["dit-shapes"])
    assert "params/metrics/q16.yaml: prompts is empty; name there prompts.p of Q16's repository" in refusal(params)
    study(params, ["painters"], backbones=["dit-shapes"])
    assert "params/metrics/painters.yaml: model or weights is empty; name there a folder or hub id" in refusal(params)
    study(params, ["resnet50"], backbones=["dit-shapes"])
    assert "no colour 'red', which the target of params/concepts/red.yaml asks for" in refusal(params)


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


def test_a_sentence_with_a_stroke_in_it_is_no_file(params: Path) -> None:
    change(params, "methods/textual_inversion", initialiser=f"a {'very ' * 60}old cat and/or dog")
    files = watched(check_method("textual_inversion", params), params, concept="yellow_cross")
    assert len(files) == 8 and all("data/yellow_cross/" in path for path in files)


@pytest.mark.parametrize("field", ["of", "edit"])
def test_a_method_that_another_takes_exists(params: Path, field: str) -> None:
    name, backbone = {"of": ("minimalist_binary", "sd-shapes"), "edit": ("minimalist_released", "flux-shapes")}[field]
    study(params, methods=["none", name], backbones=[backbone])
    studies.load_study("mini", params)
    change(params, f"methods/{name}", **{field: "minimalistt"})
    assert f"methods/{name}.yaml: {field}: no method 'minimalistt'; did you mean minimalist" in refusal(params)


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


def test_settings_for_a_small_world_are_refused_on_a_real_checkpoint_with_those_that_fit(params: Path) -> None:
    study(params, ["clip_score"], backbones=["sd14"], concepts=["yellow_cross"], methods=["textual_inversion_output"])
    assert refusal(params) == (
        "textual_inversion_output has settings for the small worlds (world: true) and sd14 is a finished checkpoint; "
        "for it: textual_inversion"
    )
    write(params, "adapted/textual_inversion_output", {"sd14": {"steps": 7}})  # meant for that very backbone
    assert studies.load_study("mini", params).runs


def test_an_attack_may_not_take_the_name_of_a_prompt_set(params: Path) -> None:
    shutil.copy(params / "attacks/ring_a_bell.yaml", params / "attacks/retain.yaml")
    study(params, attacks=["retain"])
    assert "attacks/retain.yaml: the study samples prompts of that name, too" in refusal(params)


def test_a_file_that_is_changed_is_read_again(params: Path) -> None:
    assert checked("methods", "esd", params)["steps"] == 1000
    change(params, "methods/esd", steps=7)
    assert checked("methods", "esd", params)["steps"] == 7
    checked("methods", "esd", params)["steps"] = 9
    assert checked("methods", "esd", params)["steps"] == 7
