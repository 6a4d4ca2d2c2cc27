import json
from functools import partial

import pytest
import torch

from stages.params.concept import load_concept
from stages.params.datasets import labels, read_prompts, select
from stages.store.pictures import read_folder
from stages.worlds.shapes import Shapes
from stages.worlds.table import (
    LEARNED,
    NEW_WORD,
    clip_rows,
    new_word_rows,
    pair_rows,
    picture_rows,
    to_csv,
    turned_rows,
)
from tests import ROOT

DATA = ROOT / "data"
HEADER = "id,set,prompt,colour,without_colour,seed\n"
GOOD = HEADER + "0,full,a red dot,red,a dot,0\n"


WRITERS = {
    "shapes_colors": picture_rows,
    "shapes_motion": clip_rows,
    "new_word": new_word_rows,
    "shape_pairs": pair_rows,
    "red_to_blue": partial(turned_rows, label="colour", start="red", goal="blue"),
    "circle_to_square": partial(turned_rows, label="shape", start="circle", goal="square"),
}


@pytest.mark.parametrize(("name", "rows"), WRITERS.items())
def test_the_datasets_of_the_world_are_those_that_its_code_writes(name, rows):
    assert (DATA / f"{name}.csv").read_text() == to_csv(rows(Shapes()))


@pytest.mark.parametrize("target", [{"colour": "red"}, {"shape": "circle"}, {"colour": "red", "shape": "circle"}])
def test_a_concept_of_the_shapes_has_its_prompts_twins_and_others(target):
    table = read_prompts(DATA / "shapes_colors.csv")
    concept, neutral, retain = (select(table, target, which) for which in ("concept", "neutral", "retain"))
    words = set(target.values())
    assert list(concept["id"]) == list(neutral["id"]) and len(concept) >= 7
    assert all(words <= set(prompt.split()) for prompt in concept["prompt"])
    assert not any(words & set(prompt.split()) for prompt in neutral["prompt"])
    assert not any(words <= set(prompt.split()) for prompt in retain["prompt"])
    assert (neutral[list(target)] == "").all(axis=None)
    assert not set(concept["id"]) & set(retain["id"])


def test_of_several_concepts_the_prompts_of_each_are_measured_and_those_of_none_retained():
    wanted = {"pair": ["red circle", "blue cross"]}
    table = read_prompts(DATA / "shape_pairs.csv")
    concept, neutral, retain = (select(table, wanted, which) for which in ("concept", "neutral", "retain"))
    assert set(concept["pair"]) == set(wanted["pair"]) and len(concept) == len(neutral) == 8
    assert not any("red" in prompt or "cross" in prompt for prompt in neutral["prompt"])
    assert len(set(retain["pair"])) == 14 and not set(retain["pair"]) & set(wanted["pair"])
    assert not {*concept["prompt"], *retain["prompt"]} & {*load_concept("ten_pairs").prompts}
    with pytest.raises(ValueError, match="no prompts with pair 'red star'"):
        select(table, {"pair": ["red circle", "red star"]}, "concept")


def test_a_new_word_is_measured_in_other_prompts_than_it_is_learned_in():
    table, target = read_prompts(DATA / "new_word.csv"), {"colour": "yellow", "shape": "cross"}
    learned, retain = select(table, target, "concept"), select(table, target, "retain")
    assert len(learned) == 6 and all(NEW_WORD in prompt.split() for prompt in learned["prompt"])
    assert LEARNED.format(f"a {NEW_WORD}") not in set(learned["prompt"])
    assert not any("yellow cross" in prompt or NEW_WORD in prompt for prompt in retain["prompt"])
    assert len(set(zip(retain["colour"], retain["shape"], strict=True))) == 15


def test_prompts_for_red_are_to_show_blue():
    rows = read_prompts(DATA / "red_to_blue.csv")
    turned, retain = select(rows, {"colour": "blue"}, "concept"), select(rows, {"colour": "blue"}, "retain")
    assert len(turned) == 24 and all("red" in prompt.split() for prompt in turned["prompt"])
    assert set(retain["colour"]) == {"green", "yellow"} and set(turned["shape"]) == set(retain["shape"])


def test_prompts_for_a_circle_are_to_show_a_square():
    rows = read_prompts(DATA / "circle_to_square.csv")
    turned, retain = select(rows, {"shape": "square"}, "concept"), select(rows, {"shape": "square"}, "retain")
    assert len(turned) == 24 and all("circle" in prompt.split() for prompt in turned["prompt"])
    assert set(retain["shape"]) == {"triangle", "cross"} and set(turned["colour"]) == set(retain["colour"])


def test_the_pictures_of_the_new_word_are_the_worlds():
    world, rows = Shapes(colours=("yellow",), shapes=("cross",)), torch.zeros(8, dtype=torch.long)
    drawn = (255 * world.render(rows, rows, torch.Generator().manual_seed(9))).round()
    assert torch.equal((255 * read_folder(DATA / "yellow_cross")).round(), drawn)


@pytest.mark.parametrize("kept", [0, 20, 300])
def test_a_damaged_picture_is_named(tmp_path, kept):
    whole = (DATA / "yellow_cross" / "0000.png").read_bytes()
    (tmp_path / "0000.png").write_bytes(whole[:kept])
    with pytest.raises(ValueError, match=r"0000\.png: not a whole picture"):
        read_folder(tmp_path)


@pytest.mark.parametrize("name", ["dog", "cat"])
def test_dogs_and_cats_are_each_a_concept(name):
    table = read_prompts(DATA / "dogs_cats.csv")
    concept, neutral, retain = (select(table, {"class": name}, which) for which in ("concept", "neutral", "retain"))
    assert len(concept) >= 40 and len(retain) >= 60
    assert all(name in prompt.split() for prompt in concept["prompt"])
    assert all("animal" in p.split() and name not in p.split() for p in neutral["prompt"])
    assert not any(name in prompt.split() for prompt in retain["prompt"])


def test_the_other_sets_name_the_concept_alone_or_in_another_word():
    table = read_prompts(DATA / "shapes_colors.csv")
    splits = ("fit", "tune", "test")
    alone = {split: list(select(table, {"colour": "red"}, "alone", split)["prompt"]) for split in splits}
    assert alone["fit"] == ["a red shape", "a photo of a red shape"] and not alone["tune"]
    assert len(alone["test"]) == 3 and all("a red shape" in prompt for prompt in alone["test"])
    for split, many in (("fit", 0), ("tune", 8), ("test", 12)):
        synonyms = select(table, {"colour": "red"}, "synonym", split)
        assert len(synonyms) == many and all("scarlet" in prompt for prompt in synonyms["prompt"])


def test_csv_and_json_give_the_same_table(tmp_path):
    (tmp_path / "a.csv").write_text(GOOD)
    rows = [{"id": 0, "set": "full", "prompt": "a red dot", "colour": "red", "without_colour": "a dot", "seed": 0}]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    table = read_prompts(tmp_path / "a.csv")
    assert table.equals(read_prompts(tmp_path / "a.json"))
    assert labels(table) == ["colour"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no prompts in it"),
        (HEADER, "no prompts in it"),
        (GOOD.replace("prompt,", "text,"), "column 'prompt' is missing; have: id, set, text"),
        (GOOD.replace("full", "some"), "row 1: column 'set': expected enum"),
        (GOOD.replace("a red dot", ""), "row 1: column 'prompt': expected minLength 1"),
        (GOOD.replace("dot,0\n", "dot,x\n"), "row 1: column 'seed': expected type integer, got 'x'"),
        (GOOD.replace("dot,0\n", "dot,-1\n"), "column 'seed'"),
        (GOOD.replace("dot,0\n", "dot\n"), "row 1: expected 6 columns"),
        (GOOD.replace("dot,0\n", "dot,0,7\n"), "row 1: expected 6 columns"),
        (GOOD + GOOD.splitlines()[1], "column id: 0 stands in more than one row"),
    ],
)
def test_a_bad_table_is_answered_in_one_line_that_names_it(tmp_path, text, message):
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(ValueError) as error:
        read_prompts(path)
    assert message in str(error.value) and "bad.csv" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["{", '{"id": 0}', "[1]", "[]"])
def test_a_bad_json_is_refused(tmp_path, text):
    (tmp_path / "bad.json").write_text(text)
    with pytest.raises(ValueError, match="bad.json"):
        read_prompts(tmp_path / "bad.json")


@pytest.mark.parametrize(
    ("target", "which", "message"),
    [
        ({"color": "red"}, "concept", "no label 'color' in the prompts; have: colour, shape"),
        ({"colour": "pink"}, "concept", "no prompts with colour 'pink'; have: blue, green, red, yellow"),
        ({}, "concept", "at least one label"),
        ({"colour": "red"}, "anchor", "prompt set must be one of"),
    ],
)
def test_a_concept_that_the_table_lacks_is_named(target, which, message):
    with pytest.raises(ValueError, match=message):
        select(read_prompts(DATA / "shapes_colors.csv"), target, which)
