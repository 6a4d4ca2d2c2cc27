"""Methods learn from the whole of a table, with or without neutral twins, plain and in templates."""

import dataclasses
import json

import pytest

from stages.methods import load_method
from stages.methods.esd import ESD
from stages.methods.mean_difference import MeanDifference
from stages.methods.shared.classes import Classes
from stages.methods.shared.data import FromPairs, FromPrompts, in_templates, spread
from stages.methods.t2vunlearning import T2VUnlearning
from stages.methods.uce import UCE
from stages.params import load_params, names, resolve_class
from stages.params.concept import Concept
from stages.params.pairs import read_pairs
from tests.methods.cut_down import small

SHAPES = ("circle", "disc", "square", "box", "triangle", "pyramid", "cross", "plus", "shape")
LIGHTS, WAYS = ("dark background", "light background"), ("left", "right", "up", "down")
DOG = Concept("dog", ("a dog",), ("an animal",), ("a cat",))
# Methods that are told words, prompts or another method, learn from the world itself, or take another's result.
UNTAUGHT = {"Binarized", "FlowEdit", "NegativePrompt", "NeutralRewrite", "NoMethod", "Oracle", "WordFilter"}
UNTAUGHT |= {"RandomDirection", "RandomWeights", "SAFREE", "SLD", "VideoEraser"}


def table(tmp_path, text, name="dog.csv"):
    (tmp_path / name).write_text(text)
    return f"{tmp_path}/{{concept}}{name[name.index('.') :]}"


def test_all_rows_take_the_place_of_the_concepts_own_prompts(tmp_path):
    path = table(tmp_path, "Prompt,normal prompt\na dog asleep,a cat asleep\n a dog on a hill , a cat on a hill \n")
    learned = UCE(data=path).learned(DOG)
    assert learned.pairs() == [("a dog asleep", "a cat asleep"), ("a dog on a hill", "a cat on a hill")]
    assert (learned.name, learned.retain, learned.called()) == ("dog", DOG.retain, ("dog",))
    assert UCE().learned(DOG) is DOG


def test_rows_without_twins_serve_a_method_that_needs_none(tmp_path):
    path = table(tmp_path, json.dumps(["a dog asleep", "a dog on a hill"]), "dog.json")
    learned = ESD(data=path).learned(DOG)
    assert learned.prompts == ("a dog asleep", "a dog on a hill") and learned.called() == ("dog",)
    with pytest.raises(ValueError, match="dog.json: no column 'normal prompt' or .*; have: prompt"):
        UCE(data=path).learned(DOG)
    assert ESD(data=table(tmp_path, "prompt,safe\na dog asleep,0\n")).learned(DOG).prompts == ("a dog asleep",)


def test_the_words_are_the_concepts_or_else_those_that_twins_lack(tmp_path):
    path = table(tmp_path, "prompt,normal prompt\na hound asleep,a cat asleep\n")
    assert T2VUnlearning(data=path).learned(DOG).called() == ("hound",)
    assert T2VUnlearning(data=path).learned(dataclasses.replace(DOG, words=("dog",))).called() == ("dog",)


def test_templates_and_prompts_take_turns_until_each_was_used():
    pairs = [("a dog", "a cat"), ("my dog", "my cat"), ("the dog", "the cat")]
    made = in_templates(pairs, ["a video of {}", "{} at dusk"])
    assert made == [
        *pairs,
        ("a video of a dog", "a video of a cat"),
        ("my dog at dusk", "my cat at dusk"),
        ("a video of the dog", "a video of the cat"),
    ]
    assert len(in_templates(pairs[:1], ["a {}", "b {}"])) == 3
    assert in_templates(pairs, []) == pairs
    with pytest.raises(ValueError, match="a template needs {} where the prompt goes, got 'a video'"):
        ESD(templates=("a {}", "a video")).learned(DOG)


def test_a_limit_takes_rows_from_the_whole_table(tmp_path):
    rows = "".join(f"dog {i},cat {i}\n" for i in range(10))
    learned = UCE(data=table(tmp_path, f"prompt,anchor\n{rows}"), limit=3).learned(DOG)
    assert learned.prompts == ("dog 0", "dog 2", "dog 5")
    assert len(UCE(data=f"{tmp_path}/dog.csv", limit=20).learned(DOG).prompts) == 10


@pytest.mark.parametrize(
    ("name", "limit", "rests"), [("red", 8, LIGHTS), ("red_clip", 8, WAYS), ("red_class", 8, LIGHTS)]
)
def test_a_few_rows_have_all_kinds_of_the_tables_prompts(name, limit, rests):
    for folder, few in (("fitting", limit), ("anchors", 16)):
        pairs = spread(read_pairs(f"data/{folder}/{name}.csv"), few)
        assert len(set(pairs)) == few
        assert all(any(prompt.endswith(rest) for prompt, _ in pairs) for rest in rests)
        assert len({next(shape for shape in SHAPES if shape in prompt) for prompt, _ in pairs}) >= 4


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="dog.csv is missing"):
        ESD(data=f"{tmp_path}/{{concept}}.csv").learned(DOG)


def test_every_pair_is_among_the_samples_of_a_class():
    wide = Concept("x", tuple(f"dog {i}" for i in range(9)), tuple(f"cat {i}" for i in range(9)), ("a tree",))
    assert Classes.of(wide, 4).source == wide.prompts
    assert len(Classes.of(wide, 20).source) == 20


def test_steering_by_means_hands_its_data_on(backbone, concept, tmp_path):
    path = table(tmp_path, "prompt,normal prompt\na red square,a square\na red cross,a cross\n", "red.csv")
    method = MeanDifference(samples=2, location="ca", data=path)
    plain = MeanDifference(samples=2, location="ca")
    other = dataclasses.replace(concept, prompts=("a red square", "a red cross"), neutral=("a square", "a cross"))
    same = plain.fit(backbone, other, seed=0).tensors()
    ours = method.fit(backbone, concept, seed=0).tensors()
    theirs = plain.fit(backbone, concept, seed=0).tensors()
    assert all(value.equal(same[name]) for name, value in ours.items())
    assert not all(value.equal(theirs[name]) for name, value in ours.items())


def test_every_method_that_learns_takes_data():
    classes = {resolve_class(load_params("methods", name)["class"], name) for name in names("methods")}
    without = [cls for cls in classes if "data" not in {field.name for field in dataclasses.fields(cls)}]
    assert {cls.__name__ for cls in without} <= UNTAUGHT
    shared = [cls for cls in classes if issubclass(cls, FromPrompts)]
    assert len(shared) >= 16 and len([cls for cls in shared if issubclass(cls, FromPairs)]) >= 11
    assert {cls.__name__ for cls in {*classes} - {*without, *shared}} == {"CircuitBreaker", "TextualInversion"}


def test_no_method_has_the_field_and_does_not_look_there(tmp_path, backbone, concept):
    for name in names("methods"):
        method = load_method(name, "tiny")
        if hasattr(method, "data") and getattr(method, "control", "none") == "none":
            with pytest.raises(FileNotFoundError, match="nowhere"):
                dataclasses.replace(method, data=f"{tmp_path}/nowhere").fit(backbone, concept, seed=0)


@pytest.mark.parametrize("name", ["advunlearn", "gem", "salun"])
def test_a_table_is_what_is_trained_on(backbone, concept, name, tmp_path, monkeypatch):
    seen, encode = [], backbone.encode
    monkeypatch.setattr(backbone, "encode", lambda prompts: seen.extend(prompts) or encode(prompts))
    path = table(tmp_path, "prompt,normal prompt\na red cross,a cross\n", "red.csv")
    dataclasses.replace(small(name), data=path).fit(backbone, concept, seed=0)
    assert any("a red cross" in prompt for prompt in seen) and not set(concept.prompts) & set(seen)
