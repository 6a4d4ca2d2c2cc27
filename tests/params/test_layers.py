"""What lies over a method's or an attack's own file on a backbone: tuned on small worlds, adapted on checkpoints."""

from pathlib import Path

import pytest
import yaml

from stages.attacks.base import load_attack
from stages.methods import load_method
from stages.methods.esd import ESD
from stages.params import attack_params, method_params, names
from stages.params.check import SCHEMAS, watched
from stages.params.check_methods import check_method
from stages.params.layers import CONCEPTS, layered, untuned
from stages.params.learning import lacks_data
from stages.params.load import load_params
from stages.params.source import class_fields
from stages.params.tuned import check_layers, check_strays
from tests import ROOT

CLASS = "stages.methods.esd.ESD"


def put(root: Path, name: str, content: dict) -> None:
    path = root / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "params"
    put(root, "methods/esd", {"class": CLASS, "steps": 10, "lr": 1.0})
    put(root, "methods/mine", {"like": "esd", "steps": 11})
    put(root, "methods/free", {"class": CLASS, "steps": 12})
    small = {"class": "stages.backbones.unet.UNet", "family": "unet", "path": "here", "world": "shapes"}
    put(root, "backbones/scene", small | {"architecture": "sd", "world": "scenes"})
    for name, architecture in {"one": "sd", "two": "sd", "other": "flux"}.items():
        put(root, f"backbones/{name}", small | {"architecture": architecture})
    real = {"class": "stages.backbones.unet.UNet", "family": "unet", "path": "there", "architecture": "sd"}
    put(root, "backbones/real", real)
    put(root, "backbones/finetuned", {"like": "real"})
    put(root, "backbones/apart", {"like": "real"})
    put(root, "tuned/esd", {"shapes": {"sd": {"lr": 2.0, "batch": 5, "object": {"lr": 3.0}}}})
    put(root, "adapted/esd", {"real": {"batch": 2}, "apart": {}})
    return root


def fields(name: str, backbone: str, root: Path, kind: str = "") -> dict:
    content = method_params(name, backbone, root, kind)
    assert content.pop("class") == CLASS
    return content


def test_small_worlds_take_what_is_tuned_for_their_architecture_and_the_kind_of_concept(root: Path) -> None:
    for backbone in ("one", "two"):
        assert fields("esd", backbone, root) == {"steps": 10, "lr": 2.0, "batch": 5}
        assert fields("esd", backbone, root, "object") == {"steps": 10, "lr": 3.0}
        assert fields("esd", backbone, root, "style") == {"steps": 10, "lr": 2.0, "batch": 5}
    assert load_method("esd", "one", root, "object") == ESD(steps=10, lr=3.0)


def test_what_a_study_asks_for_lies_on_top(root: Path) -> None:
    assert fields("esd@lr=4", "one", root, "object") == {"steps": 10, "lr": 4}
    assert fields("esd@steps=3", "one", root, "object") == {"steps": 3, "lr": 3.0}
    assert fields("esd@steps=3", "real", root) == {"steps": 3, "lr": 1.0, "batch": 2}


def test_a_checkpoint_takes_what_is_adapted_to_it_or_to_what_it_is_like(
    root: Path,
) -> None:
    assert fields("esd", "real", root) == {"steps": 10, "lr": 1.0, "batch": 2}
    assert fields("esd", "finetuned", root) == {"steps": 10, "lr": 1.0, "batch": 2}
    assert fields("esd", "apart", root) == {"steps": 10, "lr": 1.0}
    assert fields("esd", "no-file", root) == {"steps": 10, "lr": 1.0}


def test_the_own_keys_of_a_file_that_is_like_another_lie_over_what_lies_over_that(root: Path) -> None:
    assert fields("mine", "one", root) == {"steps": 11, "lr": 2.0, "batch": 5}
    put(root, "tuned/esd", {"shapes": {"sd": {"steps": 7}}})
    assert fields("mine", "one", root) == {"steps": 11, "lr": 1.0}
    put(root, "tuned/mine", {"shapes": {"sd": {"steps": 8}, "flux": {}}})
    assert fields("mine", "one", root) == {"steps": 8, "lr": 1.0}
    assert fields("mine", "other", root) == {"steps": 11, "lr": 1.0}


def test_an_architecture_that_nobody_tuned_on_is_refused_with_the_way_out(root: Path) -> None:
    says = (
        "is tuned on shapes .sd.; other is of shapes .flux.: search its settings .python -m stages.tune., "
        "or write them to params/tuned/"
    )
    for name in ("esd", "esd@lr=1", "mine"):
        with pytest.raises(ValueError, match=says) as refusal:
            method_params(name, "other", root)
        assert str(refusal.value) == untuned("methods", name, "other", root) and "\n" not in str(refusal.value)
    assert fields("free", "other", root) == {"steps": 12}  # of which nothing is tuned


def test_what_was_tuned_on_one_world_is_used_on_no_other(root: Path) -> None:
    """Before, a row of the architecture counted on every world."""
    with pytest.raises(ValueError, match="esd is tuned on shapes .sd.; scene is of scenes .sd.: search"):
        method_params("esd", "scene", root)
    put(root, "tuned/esd", {"scenes": {"sd": {"lr": 5.0}}, "shapes": {"sd": {"lr": 2.0}}})
    assert fields("esd", "scene", root)["lr"] == 5.0 and fields("esd", "one", root)["lr"] == 2.0
    assert fields("free", "scene", root) == {"steps": 12}


def test_a_kind_that_nobody_tuned_for_is_refused_if_there_is_nothing_for_all(root: Path) -> None:
    put(root, "tuned/esd", {"shapes": {"sd": {"object": {"lr": 3.0}}}})
    assert fields("esd", "one", root, "object")["lr"] == 3.0
    with pytest.raises(ValueError, match="esd is tuned on shapes .sd.; for object alone there: search"):
        method_params("esd", "one", root, "style")


def test_an_attack_has_the_same_layers(root: Path) -> None:
    own = {"class": "stages.attacks.tina.TINA", "steps": 50}
    put(root, "attacks/tina", own)
    put(root, "tuned/attacks/tina", {"shapes": {"sd": {"steps": 20}}})
    put(root, "adapted/attacks/tina", {"real": {"steps": 30}})
    steps = {name: attack_params("tina", name, root)["steps"] for name in ("one", "real", "finetuned", "no-file")}
    assert steps == {"one": 20, "real": 30, "finetuned": 30, "no-file": 50}
    with pytest.raises(ValueError, match="tina is tuned on shapes .sd.; other .* params/tuned/attacks/tina"):
        load_attack("tina", "other", root)
    assert load_attack("tina", "one", root).steps == 20


def test_a_layer_over_nothing_or_in_the_wrong_place_is_refused(root: Path) -> None:
    check_layers("methods", "esd", root)
    put(root, "adapted/esd", {"one": {"steps": 3}})
    with pytest.raises(
        ValueError, match="one is a small world: put its fields into params/tuned/esd.yaml under shapes, sd"
    ):
        check_layers("methods", "esd", root)
    put(root, "adapted/esd", {"reall": {"steps": 3}})
    with pytest.raises(ValueError, match=r"adapted/esd.yaml: no backbone 'reall'; did you mean real\?"):
        check_layers("methods", "esd", root)
    check_strays(root)
    put(root, "tuned/esdd", {"shapes": {"sd": {}}})
    with pytest.raises(ValueError, match=r"params/tuned/esdd.yaml: no method 'esdd'; did you mean esd\?"):
        check_strays(root)


@pytest.mark.parametrize("name", sorted({*layered("tuned", "methods"), *layered("adapted", "methods")}))
def test_every_layer_of_a_method_of_the_project_is_sound(name: str) -> None:
    check_layers("methods", name)


@pytest.mark.parametrize("name", sorted({*layered("tuned", "attacks"), *layered("adapted", "attacks")}))
def test_every_layer_of_an_attack_of_the_project_is_sound(name: str) -> None:
    check_layers("attacks", name)


def test_every_layer_lies_over_a_file_and_says_what_it_was_tuned_on() -> None:
    check_strays()
    for path in sorted((ROOT / "params/tuned").rglob("*.yaml")):
        assert path.read_text(encoding="utf-8").startswith("# "), path


def test_no_field_has_the_name_of_a_kind_of_concept() -> None:
    for kind in ("methods", "attacks"):
        for name in names(kind):
            assert not set(CONCEPTS) & set(class_fields(load_params(kind, name)["class"], name))


def test_small_worlds_and_checkpoints_say_their_architecture() -> None:
    abouts = {name: load_params("backbones", name) for name in names("backbones")}
    assert all("architecture" in about for about in abouts.values())
    classes = {(about["architecture"], about["class"]) for about in abouts.values()}
    assert len(classes) == len({architecture for architecture, _ in classes})


def test_fields_under_backbones_are_refused_with_where_they_belong(root: Path) -> None:
    put(root, "methods/esd", {"class": CLASS, "backbones": {"one": {"steps": 3}}})
    with pytest.raises(ValueError, match=r"esd.yaml: backbones: .* params/tuned/esd.yaml .* params/adapted/esd.yaml"):
        check_method("esd", root)


def test_the_kinds_of_the_schemas_are_those_of_the_code() -> None:
    schemas = {name: yaml.safe_load((SCHEMAS / f"{name}.schema.yaml").read_text()) for name in ("concepts", "tuned")}
    assert tuple(schemas["concepts"]["properties"]["kind"]["enum"]) == CONCEPTS
    assert tuple(schemas["tuned"]["$defs"]["row"]["properties"]) == CONCEPTS


@pytest.mark.parametrize("concept", ["yellow_cross", "moxlo"])
@pytest.mark.parametrize("method", ["textual_inversion", "textual_inversion_output"])
def test_one_preset_teaches_a_word_for_every_concept_that_has_a_folder(method: str, concept: str) -> None:
    content = check_method(method)
    files = watched(content, concept=concept)
    assert len(files) == 8 and {Path(path).parent.name for path in files} == {concept}
    assert lacks_data(method, "sd-withheld", "red_to_blue") and not lacks_data(method, "sd-withheld", concept)


@pytest.mark.parametrize("control", ["zero", "random"])
def test_controls_of_a_word_start_from_what_the_word_starts_from(control: str) -> None:
    for backbone in ("sd-withheld", "infinity-withheld"):
        word = method_params("textual_inversion", backbone)
        assert method_params(f"textual_inversion_{control}", backbone) == word | {"control": control}
