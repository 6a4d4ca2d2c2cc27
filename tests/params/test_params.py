"""YAML to objects: every wrong input is one line that says what, where, and what was allowed."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from stages.methods import load_method
from stages.params import build, check_name, construct, load_params, names
from stages.params.concept import Concept, load_concept
from stages.params.types import Count


@dataclass
class Thing:
    steps: Count = 3
    rate: float = 0.1


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "params" / "methods"
    folder.mkdir(parents=True)
    (folder / "esd.yaml").write_text("class: stages.methods.esd.ESD\nsteps: 10\n")
    return tmp_path / "params"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("class: stages.methods.esd.ESD\nstep: 3\n", r"esd.yaml: unknown key 'step'; did you mean steps\? have: accum"),
        ("class: stages.methods.esd.ESD\nsteps: -3\n", r"esd.yaml: steps: Input should be greater than 0, got -3"),
        ("class: stages.methods.esd.ESD\ntrain: q\n", r"esd.yaml: train: Input should be 'x', 'x_strict'"),
        ("class: stages.methods.esd.Missing\n", r"cannot import class 'stages.methods.esd.Missing'"),
        ("steps: 3\n", "the key 'class' is missing"),
        ("- a\n- b\n", "expected a mapping"),
        ("class: [unclosed\n", "not valid YAML"),
    ],
)
def test_a_wrong_file_is_named_with_what_is_wrong(root, text, message):
    (root / "methods" / "esd.yaml").write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        load_method("esd", "any", root)
    assert "\n" not in str(caught.value)


def test_a_wrong_name_answers_with_the_nearest(root):
    with pytest.raises(ValueError, match=r"no method 'esdd'; did you mean esd\? have: esd"):
        load_params("methods", "esdd", root)
    for name in ("../esd", "a/b", "", "ESD", "..", ".hidden"):
        with pytest.raises(ValueError, match="name"):
            check_name(name, "method")


def test_a_file_may_be_like_another_but_for_its_own_keys(root):
    folder = root / "backbones"
    folder.mkdir()
    (folder / "plain.yaml").write_text("family: unet\npath: here\npretrain: {steps: 10, lr: 1.0}\n")
    (folder / "other.yaml").write_text("like: plain\npath: there\npretrain: {steps: 20}\n")
    assert load_params("backbones", "other", root) == {
        "family": "unet",
        "path": "there",
        "pretrain": {"steps": 20, "lr": 1.0},
    }
    (folder / "third.yaml").write_text("like: other\npath: elsewhere\n")
    assert load_params("backbones", "third", root)["pretrain"] == {"steps": 20, "lr": 1.0}
    for circle in ("other", "third"):
        (folder / "other.yaml").write_text(f"like: {circle}\n")
        with pytest.raises(ValueError, match=f"{circle} is itself like this one"):
            load_params("backbones", "third", root)
    (folder / "other.yaml").write_text("like: plane\n")
    with pytest.raises(ValueError, match=r"no backbone 'plane'; did you mean plain\?"):
        load_params("backbones", "other", root)


def test_numbers_written_as_text_are_read_and_floats_are_not_counts():
    assert construct(Thing, {"rate": "1e-3"}, "t").rate == pytest.approx(1e-3)
    with pytest.raises(ValueError, match="t: steps"):
        construct(Thing, {"steps": 1.5}, "t")


def test_every_file_in_params_builds():
    for name in names("methods"):
        assert callable(load_method(name, "any").fit)
    for name in names("concepts"):
        assert load_concept(name).name == name
    for name in names("metrics"):
        build(load_params("metrics", name), name)


def test_a_concept_pairs_its_prompts():
    concept = Concept("c", ("a red dog", "a red cat"), ("a dog", "a cat"), ("x",))
    assert concept.pairs() == [("a red dog", "a dog"), ("a red cat", "a cat")]
    assert Concept("c", ("p", "q"), ("n",), ("x",)).pairs() == [("p", "n"), ("q", "n")]
    with pytest.raises(ValueError, match="neutral must have one prompt"):
        Concept("c", ("p",), ("a", "b"), ("x",))
    with pytest.raises(ValueError, match="retain must not be empty"):
        Concept("c", ("p",), ("a",), ())


def test_prompts_of_params_and_data_exist():
    for name in names("concepts"):
        dataset = load_concept(name).dataset
        assert not dataset or Path(dataset).is_file()
