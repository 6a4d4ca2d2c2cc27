"""The tables of prompts to learn from: of every concept, many, mild in words, and none of them measured."""

import pytest

from stages.backbones.dit import normal
from stages.control.mentions import mentions
from stages.params import names
from stages.params.concept import load_concept
from stages.params.datasets import SETS
from stages.params.learning import Measured
from stages.params.pairs import read_pairs
from stages.worlds.classes import classes
from stages.worlds.fitting import anchor_rows, fitting_rows
from stages.worlds.shapes import Shapes
from stages.worlds.table import to_csv
from stages.worlds.words import make_tokenizer
from tests import ROOT

DATA = ROOT / "data"
REAL = {"cat", "dog"}  # whose tables are written by hand
CONCEPTS = names("concepts")
ERASED = [name for name in CONCEPTS if load_concept(name).aim == "erase"]


@pytest.mark.parametrize("name", [name for name in CONCEPTS if name not in REAL])
def test_the_tables_of_the_world_are_those_that_its_code_writes(name):
    assert (DATA / f"fitting/{name}.csv").read_text() == to_csv(fitting_rows(Shapes(), name))
    if name in ERASED:
        assert (DATA / f"anchors/{name}.csv").read_text() == to_csv(anchor_rows(Shapes(), name))


@pytest.mark.parametrize("name", CONCEPTS)
def test_a_concept_has_many_prompts_of_its_own_none_of_which_is_measured(name):
    pairs, concept = read_pairs(DATA / f"fitting/{name}.csv"), load_concept(name)
    assert 50 <= len(pairs) <= 100 and len({prompt for prompt, _ in pairs}) == len(pairs)
    check_sides(pairs, concept)


@pytest.mark.parametrize("name", ERASED)
def test_a_concept_has_two_hundred_anchors_none_of_which_can_show_it(name):
    pairs, concept = read_pairs(DATA / f"anchors/{name}.csv"), load_concept(name)
    assert 200 <= len(pairs) == len(set(pairs))
    check_sides(pairs, concept)
    general = ("animal", "pet") if name in REAL else ()
    for _, anchor in pairs:
        assert not mentions(anchor, general), anchor
        # a colour or a shape that is not said may be any, the concept's, too
        said = [label for label in ("red", "green", "blue", "yellow") if mentions(anchor, [label])]
        assert said or "red" not in name, anchor
        assert "circle" not in name or mentions(anchor, ["square", "triangle", "cross"]), anchor


def check_sides(pairs, concept):
    splits = [Measured.of(concept, _sets(concept), split=split) for split in ("tune", "test")]
    apart = splits[0].prompts() | splits[1].prompts()
    for prompt, twin in pairs:
        assert mentions(prompt, concept.called()) and not mentions(twin, (*concept.called(), *concept.synonyms)), prompt
        assert not mentions(prompt, concept.synonyms), prompt
        assert not {prompt, twin} & apart, prompt
        assert prompt not in concept.prompts


def _sets(concept):
    """Those of the sets that the concept's dataset has."""
    have = []
    for which in SETS:
        try:
            Measured.of(concept, [which])
        except ValueError:
            continue
        have.append(which)
    assert {"concept", "neutral", "retain"} <= set(have)
    return have


def test_the_small_world_knows_all_words_and_reads_every_prompt_whole():
    tokenizer = make_tokenizer()
    tables = [path for path in DATA.glob("*/*.csv") if path.stem not in REAL]
    assert len(tables) >= 13
    for path in tables:
        for text in {text for pair in read_pairs(path) for text in pair}:
            (ids,) = tokenizer([text]).input_ids
            assert tokenizer.unk_token_id not in ids and len(ids) <= tokenizer.model_max_length, text


def test_every_prompt_of_a_class_conditional_backbone_names_a_class():
    labels = [normal(label) for names in classes().values() for label in names.split(", ")]
    for folder in ("fitting", "anchors"):
        for text in {text for pair in read_pairs(DATA / folder / "red_class.csv") for text in pair}:
            assert any(label in normal(text) for label in labels), text
