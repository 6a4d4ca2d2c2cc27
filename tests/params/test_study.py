"""A study is checked before anything runs: names, keys and values, each wrong one named in one line."""

import dataclasses
import shutil
from pathlib import Path

import pytest

from stages.params import canonical, check_name, load_params, method_params, names
from stages.params import study as studies
from stages.params.concept import Concept, load_concept
from stages.params.learning import Measured
from stages.params.names import split, sweep, variant
from stages.params.oracles import excluded
from tests import ROOT

DEMO = ROOT / "tests/workflow/demo.yaml"


@pytest.fixture
def params(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "params", tmp_path / "params")
    shutil.copy(DEMO, tmp_path / "params/studies/demo.yaml")
    return tmp_path / "params"


@pytest.mark.parametrize("name", names("studies", ROOT / "params"))
def test_every_study_of_the_project_is_sound(name: str) -> None:
    study = studies.load_study(name, ROOT / "params")
    assert study.runs
    assert len(set(study.runs)) == len(study.runs)


def test_a_study_measures_twins_names_and_synonyms_that_it_does_not_name() -> None:
    assert studies.counts({"concept": 10, "retain": 4}) == {
        **{"concept": 10, "retain": 4},
        **{"neutral": 5, "alone": 3, "synonym": 5, "implied": 3},
    }
    asked = {"concept": 10, "retain": 4, "neutral": 2, "synonym": 0, "implied": 0}
    assert studies.counts(asked) == {"concept": 10, "retain": 4, "neutral": 2, "alone": 3}


def test_the_full_study_finds_every_method_by_its_file(params: Path) -> None:
    shutil.copy(params / "methods/uce.yaml", params / "methods/fresh.yaml")
    study = studies.load_study("full", params)
    assert {run.method for run in study.runs} > {"fresh", "esd"}


def test_all_methods_are_those_that_make_sense_there(params: Path) -> None:
    on = {name: set(studies.fitting(name, "red", params)) for name in ("sd-shapes", "sd14", "flux-shapes")}
    assert "flowedit" in on["flux-shapes"] - on["sd-shapes"]
    assert "esd_x" in on["sd14"] & on["sd-shapes"] and "esd_x_released" in on["sd14"] - on["sd-shapes"]
    assert "textual_inversion" not in on["sd-shapes"] | on["sd14"]
    assert "esd" in (on["sd-shapes"] & on["flux-shapes"]) - on["sd14"]  # where it is esd_x
    assert all("sld_medium" in found for found in on.values())


REAL = [
    name
    for name in names("backbones", ROOT / "params")
    if not load_params("backbones", name, ROOT / "params").get("world")
]


@pytest.mark.parametrize("backbone", REAL)
def test_all_methods_on_a_real_checkpoint_are_those_with_settings_for_one(params: Path, backbone: str) -> None:
    found = studies.fitting(backbone, "dog", params)
    own = {name: load_params("methods", name, params) for name in names("methods", params)}
    assert not [name for name in found if own[name].get("world")]
    assert "oracle" not in found and "textual_inversion" not in found and "none" in found
    assert "activation_transport" in found and ("conditioned_transport" in found) == backbone.startswith("infinity")


def test_a_word_is_learned_on_a_real_checkpoint_by_the_settings_for_one(params: Path) -> None:
    found = studies.fitting("sd14", "yellow_cross", params)
    assert "textual_inversion" in found and "textual_inversion_output" not in found
    assert "textual_inversion_output" in studies.fitting("sd-withheld", "yellow_cross", params)


def test_the_oracle_is_for_what_is_erased(params: Path) -> None:
    assert "oracle" in studies.fitting("infinity-shapes", "red", params)
    assert "oracle" not in studies.fitting("infinity-shapes", "red_to_blue", params)
    demo = params / "studies/demo.yaml"
    demo.write_text(
        demo.read_text().replace(
            "concepts: [red]\n    methods: [oracle]", "concepts: [red_to_blue]\n    methods: [oracle]"
        )
    )
    with pytest.raises(ValueError, match="oracle is for concepts to erase; the aim of red_to_blue is to learn"):
        studies.load_study("demo", params)


def test_the_oracles_world_leaves_out_every_label_of_the_concept() -> None:
    red = load_concept("red", ROOT / "params")
    both = dataclasses.replace(red, target={"shape": "cross", "colour": "yellow"})
    assert (excluded(red), excluded(both)) == ("red", "yellow cross")
    for wrong, says in (
        (load_concept("red_to_blue", ROOT / "params"), "red_to_blue is to be learned"),
        (dataclasses.replace(red, target={}), "an oracle needs a target of red"),
    ):
        with pytest.raises(ValueError, match=says):
            excluded(wrong)


def test_a_method_named_for_a_family_it_cannot_work_on_is_refused(params: Path) -> None:
    demo = params / "studies/demo.yaml"
    demo.write_text(demo.read_text().replace("methods: [oracle]", "methods: [flowedit]"))
    with pytest.raises(ValueError, match="flowedit works on mmdit, wan; sd-shapes is of the family unet"):
        studies.load_study("demo", params)


def test_a_bad_value_is_found_where_a_backbone_overrides_it(params: Path) -> None:
    esd, tuned = params / "methods/esd.yaml", params / "tuned/esd.yaml"
    esd.write_text(esd.read_text() + "\nlr: -1.0\n")
    tuned.write_text("shapes: {sd: {lr: 1.0e-4}}\n")
    with pytest.raises(ValueError, match="methods/esd.yaml: lr: .* got -1"):
        studies.load_study("demo", params)


def test_a_concept_without_a_dataset_or_a_target_cannot_be_measured(params: Path) -> None:
    red = params / "concepts/red.yaml"
    red.write_text(red.read_text().replace("dataset: data/shapes_colors.csv\n", ""))
    with pytest.raises(ValueError, match="concepts/red.yaml: the key 'dataset' is missing"):
        studies.load_study("demo", params)


def test_masks_to_binarize_are_those_of_a_method_that_exists(params: Path) -> None:
    demo, binary = params / "studies/demo.yaml", params / "methods/minimalist_binary.yaml"
    demo.write_text(demo.read_text().replace("methods: [oracle]", "methods: [minimalist_binary]"))
    studies.load_study("demo", params)
    binary.write_text(binary.read_text().replace("of: minimalist", "of: minimalistt"))
    with pytest.raises(ValueError, match="no method 'minimalistt'; did you mean minimalist"):
        studies.load_study("demo", params)


def test_a_backbone_of_another_world_is_refused(params: Path) -> None:
    backbone = params / "backbones/sd-shapes.yaml"
    backbone.write_text(backbone.read_text().replace("world: shapes", "world: shaped"))
    with pytest.raises(ValueError, match="backbones/sd-shapes.yaml: world: 'shaped' is not one of"):
        studies.load_study("demo", params)


SWEEP = "    sweep: {method: minimalist, fields: {beta: [0.1, 0.3], steps: [20, 40]}}\n"


def test_a_sweep_runs_every_combination_of_the_fields_values(params: Path) -> None:
    demo = params / "studies/demo.yaml"
    demo.write_text(demo.read_text().replace("    methods: [oracle]\n", "    methods: [none]\n" + SWEEP))
    study = studies.load_study("demo", params)
    swept = [run.method for run in study.runs if "@" in run.method]
    assert swept == [f"minimalist@beta={beta},steps={steps}" for beta in (0.1, 0.3) for steps in (20, 40)]
    given = method_params(swept[1], "sd-shapes", params)
    assert given == method_params("minimalist", "sd-shapes", params) | {"beta": 0.1, "steps": 40}


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("beta", "betta", "minimalist@betta=0.1,steps=20: unknown key 'betta'; did you mean beta?"),
        ("0.3", "-1", "minimalist@beta=-1,steps=20: beta: Input should be greater than or equal to 0"),
        ("minimalist", "minimal", "no method 'minimal'; did you mean minimalist?"),
        ("fields", "field", "unknown key 'field' in cells[1].sweep; did you mean fields?"),
        ("[20, 40]", "[]", "cells[1].sweep.fields.steps: [] should be non-empty"),
        ("[20, 40]", "[{a: 1}]", "steps: a sweep takes numbers, words and lists of them, got {'a': 1}"),
    ],
)
def test_what_is_wrong_with_a_sweep_is_named(params: Path, old: str, new: str, says: str) -> None:
    demo, wrong = params / "studies/demo.yaml", SWEEP.replace(old, new)
    demo.write_text(demo.read_text().replace("    methods: [oracle]\n", "    methods: [none]\n" + wrong))
    with pytest.raises(ValueError) as caught:
        studies.load_study("demo", params)
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_an_attack_on_gates_wants_methods_that_have_one(params: Path) -> None:
    demo = params / "studies/demo.yaml"
    text = demo.read_text()

    def attacked(methods: str) -> None:
        cell = f"    methods: {methods}\n    attacks: [closed_gate]"
        demo.write_text(text.replace("    methods: [oracle]", cell))
        studies.load_study("demo", params)

    attacked("[receler, word_filter, spm, safree, conditioned_transport]")
    for method in ("esd", "prototype_steering@gate=none"):
        with pytest.raises(ValueError, match=rf"{method} has none on .*; put it into a cell of methods that have one"):
            attacked(f"[{method}]")


def test_a_cells_attacks_are_on_its_runs_alone(params: Path) -> None:
    demo = params / "studies/demo.yaml"
    demo.write_text(
        demo.read_text().replace("    methods: [oracle]", "    methods: [oracle, esd]\n    attacks: [ring_a_bell]")
    )
    study = studies.load_study("demo", params)
    attacked = {(run.method, run.seed) for run, attacks in study.attacks.items() if attacks == ("ring_a_bell",)}
    assert attacked == {("oracle", 0), ("esd", 0)} and set(study.attacks) == set(study.runs)


@pytest.mark.parametrize(
    ("attacks", "says"),
    [("[ring_bell]", "no attack 'ring_bell'; did you mean ring_a_bell?"), ("[retain]", "no attack 'retain'")],
)
def test_what_is_wrong_with_attacks_is_named(params: Path, attacks: str, says: str) -> None:
    demo = params / "studies/demo.yaml"
    demo.write_text(demo.read_text().replace("    methods: [oracle]", f"    methods: [oracle]\n    attacks: {attacks}"))
    with pytest.raises(ValueError) as caught:
        studies.load_study("demo", params)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    "value", [0, -1, 0.5, 1e-5, 1e20, True, "CONDITIONAL", "ca_block", [0], [-1], [0, 1, 2], ["norm", "ff"], [1e-5]]
)
def test_a_variants_name_is_a_folder_and_says_its_fields(value: object) -> None:
    name = variant("esd", {"one": value, "two": 2})
    assert split(name) == ("esd", {"one": value, "two": 2})
    assert check_name(name, "method") == name
    with pytest.raises(ValueError, match="concept name"):
        check_name(name, "concept")


@pytest.mark.parametrize("value", ["", "1", "true", "a b", "../up", "a,b", None, [], {}, float("nan")])
def test_a_value_that_no_name_can_hold_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="one: a sweep takes numbers, words and lists of them"):
        variant("m", {"one": [[0, 1], [2]]})
    with pytest.raises(ValueError, match="one: a sweep takes numbers, words and lists of them"):
        list(sweep("esd", {"one": [value]}))


@pytest.mark.parametrize("name", ["esd@", "esd@lr", "esd@lr=", "esd@lr=1,", "esd@lr=1/2", "esd@lr=1@lr=2", "@lr=1"])
def test_a_variants_name_in_disorder_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="method name"):
        check_name(name, "method")


@pytest.mark.parametrize(
    ("path", "old", "new", "says"),
    [
        ("studies/demo.yaml", "esd_x", "esd_xx", "no method 'esd_xx'; did you mean esd_x? have: "),
        ("studies/demo.yaml", "[red]", "[../red]", "concept name '../red'"),
        ("studies/demo.yaml", "seeds:", "seed:", "unknown key 'seed' in cells[1]; did you mean seeds?"),
        ("studies/demo.yaml", "[0, 1]", "[0, -1]", "seeds[1]: -1 is less than the minimum of 0"),
        ("studies/demo.yaml", "retain:", "retian:", "unknown key 'retian' in prompts; did you mean retain?"),
        ("methods/esd_x.yaml", "steps:", "stpes:", "unknown key 'stpes'; did you mean steps?"),
        ("methods/esd_x.yaml", "batch: ", "batch: -", "batch: Input should be greater than 0"),
        ("methods/esd_x.yaml", "esd.ESD", "esd.ESDD", "no class 'ESDD' in stages/methods/esd.py; did you mean ESD?"),
        ("methods/esd_x.yaml", "methods.esd.", "methods.esdd.", "no module stages/methods/esdd.py"),
        ("methods/esd_x.yaml", "stages.methods.esd", "os.path", "no module os/path.py"),
        ("concepts/red.yaml", "target:", "traget:", "unknown key 'traget'; did you mean target?"),
        ("concepts/red.yaml", "data/", "../data/", "dataset: '../data/shapes_colors.csv' does not match"),
        ("backbones/sd-shapes.yaml", "guidance: ", "guidance: -", "guidance: Input should be greater than"),
    ],
)
def test_what_is_wrong_is_named(params: Path, path: str, old: str, new: str, says: str) -> None:
    text = (params / path).read_text()
    assert old in text
    (params / path).write_text(text.replace(old, new, 1))
    with pytest.raises(ValueError) as caught:
        studies.load_study("demo", params)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_parameters_are_equal_whatever_their_order_and_comments() -> None:
    assert canonical({"a": 1, "b": [2, 3]}) == canonical({"b": [2, 3], "a": 1})
    assert canonical({"a": 1, "b": 2}, without=("b",)) == canonical({"a": 1})
    assert canonical({"a": 1}) != canonical({"a": 2})


def test_a_concept_without_twins_is_checked_against_the_sets_that_it_has(params: Path) -> None:
    """A study draws neutral twins unless told otherwise; a table may have no column of them."""
    (params.parent / "data").mkdir()
    rows = "id,set,prompt,colour,shape,without_colour,without_shape\n0,full,a red dot,red,dot,a dot,a red one\n"
    (params.parent / "data/dots.csv").write_text(rows)
    concept = Concept("dots", ("a red",), ("a",), ("b",), "data/dots.csv", {"colour": "red", "shape": "dot"})
    sets = ["concept", "neutral", "alone", "synonym"]
    assert Measured.of(concept, sets, params).prompts() == {"a red dot"}
