"""A field that has no effect with the others is refused before anything runs, with the way out."""

import ast
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from stages.params import load_params, method_params, names
from stages.params.check_methods import check_attack, check_method, check_method_on
from stages.params.effect import FAMILY, check_effect, effective
from stages.params.source import class_fields, merged
from stages.params.tuned import check_layers
from tests import ROOT

ESD = "stages.methods.esd.ESD"
CLASSES = sorted({load_params(kind, name)["class"] for kind in ("methods", "attacks") for name in names(kind)})


@pytest.fixture
def params(tmp_path: Path) -> Path:
    """A copy of params/."""
    shutil.copytree(ROOT / "params", tmp_path / "params")
    return tmp_path / "params"


def change(params: Path, name: str, **keys: object) -> None:
    path = params / f"{name}.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | keys))


def needs() -> Iterator[tuple[str, str, str, object]]:
    """Every condition: the class, the field, what it depends on, and on which values."""
    for path in CLASSES:
        for key, conditions in merged(path, "NEEDS").items():
            for other, wanted in conditions.items():
                yield path, key, other, wanted


@pytest.mark.parametrize("path", CLASSES)
def test_conditions_are_on_fields_whose_defaults_can_be_read(path: str) -> None:
    known = class_fields(path, path)
    for key, conditions in merged(path, "NEEDS").items():
        assert key in known, key
        for other, wanted in conditions.items():
            assert isinstance(wanted, bool | tuple) and wanted != ()
            if other == FAMILY:
                continue
            field = known[other]
            assert not field.required and (field.default is not None or "None" in field.text), (key, other)


def test_conditions_are_told_of_many_methods_and_of_attacks() -> None:
    paths = {path.split(".")[2] for path, *_ in needs()}
    assert {"esd", "eap", "receler", "minimalist", "binarized", "casteer", "sld", "p4d", "relearning"} <= paths


@pytest.mark.parametrize(
    ("name", "keys", "says"),
    [
        ("methods/esd_x_released", {"states": "frozen"}, "guidance has no effect with states: frozen; choose states:"),
        ("methods/esd", {"empty": 3, "preserve": 0.0}, "empty has no effect with preserve: 0.0; set preserve, too, or"),
        ("methods/minimalist_binary", {"ratio": 0.5, "threshold": 0.1}, "threshold has no effect with ratio: 0.5"),
        (
            "methods/minimalist_released",
            {"push": 1.0},
            "push is for single predictions; choose through: state, or push: 0",
        ),
        ("methods/minimalist", {"linear": ".*"}, "linear has no effect with masks: ["),
        ("methods/receler", {"localise": 0.0}, "has no effect with localise: 0.0; set localise, too, or leave"),
        ("methods/casteer", {"quantile": 0.9}, "quantile has no effect with gate: none; choose gate: region, or leave"),
        ("attacks/p4d_k", {"tokens": 4}, "tokens has no effect with every: 3; leave every out, or leave tokens out"),
        ("attacks/relearning_full", {"rank": 4}, "rank has no effect with train: full; choose train: lora"),
    ],
)
def test_it_is_told_with_the_way_out(params: Path, name: str, keys: dict, says: str) -> None:
    kind, _, stem = name.partition("/")
    check = {"methods": check_method, "attacks": check_attack}[kind]
    check(stem, params)
    change(params, name, **keys)
    with pytest.raises(ValueError) as caught:
        check(stem, params)
    assert says in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "keys", "says"),
    [
        ("spm", {"floor": 1.0}, "a floor of 1 keeps every gate closed; choose one below"),
        ("spm", {"lengths": [1.2, 0.8]}, "lengths: the shorter comes first, got 1.2 and 0.8"),
        (
            "advunlearn",
            {"steps": 3, "peace": 3},
            "peace: 3 of 3 steps leaves none to attack in; lower it or choose esd",
        ),
        ("esd", {"erase_from": "a street"}, "erase_from needs origin: source; choose it, or leave"),
        ("concept_ablation", {"states": "trajectory", "prior": 1.0}, "choose target: model and prior: 0"),
        ("minimalist", {"through": "run", "push": 1.0}, "push is for single predictions; choose through: state, or"),
        ("minimalist", {"through": "state", "target": "flowedit"}, "choose through: run, or target: neutral"),
    ],
)
def test_fields_that_contradict_each_other_are_refused_wherever_they_are_written(params, name, keys, says):
    """In the file that a preset is like, in the preset itself, and where it is tuned."""
    check_method(name, params)
    content = load_params("methods", name, params)
    (params / "methods/far.yaml").write_text(yaml.safe_dump(content | keys))
    (params / "methods/near.yaml").write_text(yaml.safe_dump({"like": "far"}))
    for other in ("far", "near"):
        with pytest.raises(ValueError) as caught:
            check_method(other, params)
        assert says in str(caught.value) and str(caught.value).startswith(f"params/methods/{other}.yaml: ")
    (params / "methods/there.yaml").write_text(yaml.safe_dump(content))
    (params / "tuned/there.yaml").write_text(yaml.safe_dump({"shapes": {"sd": keys}}))
    check_method("there", params)
    with pytest.raises(ValueError) as caught:
        check_layers("methods", "there", params)
    assert says in str(caught.value) and str(caught.value).startswith("params/tuned/there.yaml: shapes: sd: ")


def test_a_contradiction_is_told_of_fields_whose_defaults_can_be_read() -> None:
    told = [(path, expression) for path in CLASSES for expression in merged(path, "REFUSES")]
    assert len(told) > 5
    for path, expression in told:
        known = class_fields(path, path)
        for name in {node.id for node in ast.walk(ast.parse(expression)) if isinstance(node, ast.Name)}:
            assert not known[name].required and (known[name].default is not None or "None" in known[name].text), name


def test_a_variant_is_refused_on_the_backbone_where_its_field_is_idle() -> None:
    check_method_on("esd_x@guidance=5", "sd14")
    with pytest.raises(ValueError, match="guidance has no effect with states: frozen"):
        check_method_on("esd_x@guidance=5", "infinity-2b")
    check_method_on("esd_x", "infinity-2b")  # its file says guidance for others


def test_a_file_answers_for_its_own_keys_and_not_for_those_it_is_like(params: Path) -> None:
    own = {"class": ESD, "like": "esd_x", "states": "frozen"}
    (params / "methods/mine.yaml").write_text(yaml.safe_dump(own))
    check_method("mine", params)
    (params / "methods/mine.yaml").write_text(yaml.safe_dump(own | {"guidance": 2.0}))
    with pytest.raises(ValueError, match="guidance has no effect"):
        check_method("mine", params)


def test_what_is_switched_off_is_no_fault() -> None:
    check_effect(ESD, {"states": "frozen", "guidance": 0.0}, ["states", "guidance"], "here")


def test_idle_fields_do_not_tell_two_settings_apart() -> None:
    same = [effective(ESD, {"states": "frozen", "guidance": value}) for value in (1.0, 9.0)]
    assert same[0] == same[1]
    assert effective(ESD, {"guidance": 1.0}) != effective(ESD, {"guidance": 9.0})
    assert effective(ESD, {"states": "fresh"}) != same[0]


def test_a_change_for_one_backbone_is_resolved_first() -> None:
    fields = {key: value for key, value in method_params("esd_x", "infinity-2b").items() if key != "class"}
    assert "guidance" not in effective(ESD, fields) and fields["guidance"] == 3.0
