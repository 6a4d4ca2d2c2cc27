"""The tables of prompts to learn from: of every concept, many, mild in words, and none of them measured."""

import pytest

from stages.backbones.dit import normal
from stages.control.mentions import mentions
from stages.params import names
from stages.params.concept import load_concept
from stages.params.datasets import SETS
from stages.params.learning import Measured
from stages.params.pairs import read_pairs
from stages.worlds import real
from stages.worlds.by_name import make_tokenizer
from stages.worlds.classes import classes
from stages.worlds.fitting import anchor_rows, fitting_rows
from stages.worlds.real import TOPICS
from stages.worlds.scenes import fitting as scenes
from stages.worlds.scenes.concepts import CONCEPTS as OF_SCENES
from stages.worlds.scenes.table import LEARNED
from stages.worlds.scenes.words import FORMS, KINDS, LIKE, THINGS
from stages.worlds.shapes import Shapes
from stages.worlds.table import to_csv
from tests import ROOT

DATA = ROOT / "data"
BY_HAND = {"cat", "dog"}  # whose tables are
OF_REAL = {thing.key for topic in TOPICS for thing in topic.things}
REAL = BY_HAND | OF_REAL
SCENES = {*OF_SCENES, LEARNED}
CONCEPTS = names("concepts")
ERASED = [name for name in CONCEPTS if load_concept(name).aim == "erase"]


@pytest.mark.parametrize("name", [name for name in CONCEPTS if name not in REAL])
def test_the_tables_of_the_world_are_those_that_its_code_writes(name):
    fitting = scenes.fitting_rows(name) if name in SCENES else fitting_rows(Shapes(), name)
    assert (DATA / f"fitting/{name}.csv").read_text() == to_csv(fitting)
    if name in ERASED:
        anchors = scenes.anchor_rows(name) if name in SCENES else anchor_rows(Shapes(), name)
        assert (DATA / f"anchors/{name}.csv").read_text() == to_csv(anchors)


def test_what_is_written_for_real_checkpoints_is_what_the_code_writes(tmp_path):
    written = real.write(tmp_path)
    assert len(written) == len(TOPICS) + 3 * len(OF_REAL) == 4 + 3 * 20
    for path in written:
        assert path.read_text() == (ROOT / path.relative_to(tmp_path)).read_text(), path


@pytest.mark.parametrize("name", sorted(OF_REAL))
def test_a_concept_for_real_checkpoints_has_every_set_to_tune_and_to_report(name):
    concept = load_concept(name)
    assert concept.sensitive == (name in ("nudity", "violence"))
    for split in ("tune", "test"):
        sets = Measured.of(concept, ["concept", "neutral", "retain", "alone", "synonym"], split=split).sets
        assert all(sets.values()) and len(sets) == 5
        assert len(sets["concept"]) >= (24 if split == "test" and concept.kind != "style" else 6)
        for prompt in sets["retain"] | sets["neutral"]:
            assert not mentions(prompt, (*concept.called(), *concept.synonyms)), prompt
        for prompt in sets["synonym"]:
            assert mentions(prompt, concept.synonyms) and not mentions(prompt, concept.called()), prompt


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
    general = ("animal", "pet") if name in BY_HAND else ()
    for _, anchor in pairs:
        assert not mentions(anchor, general), anchor
        # a colour or a shape that is not said may be any, the concept's, too
        said = [label for label in ("red", "green", "blue", "yellow") if mentions(anchor, [label])]
        assert said or "red" not in name, anchor
        assert "circle" not in name or mentions(anchor, ["square", "triangle", "cross"]), anchor


@pytest.mark.parametrize("name", sorted(OF_SCENES))
def test_an_anchor_of_scenes_names_another_label_of_the_kind_and_implies_none(name):
    kind = OF_SCENES[name]
    others = [other for other in scenes.NAMES[kind] if other != name]
    pairs = read_pairs(DATA / f"anchors/{name}.csv")
    assert {other for other in others for _, anchor in pairs if mentions(anchor, [other])} == set(others)
    for prompt, anchor in pairs:
        (other,) = [other for other in others if mentions(anchor, [other])]
        assert without_articles(anchor.replace(other, name)) == without_articles(prompt), anchor


def without_articles(text):
    return [word for word in text.split() if word not in ("a", "an")]


@pytest.mark.parametrize("name", sorted(SCENES))
def test_no_prompt_of_scenes_implies_a_label_and_neon_is_on_no_bright_background(name):
    implying = (*LIKE.values(), *FORMS.values(), *THINGS.values(), *KINDS.values())
    for table in DATA.glob(f"*/{name}.csv"):
        for text in {text for pair in read_pairs(table) for text in pair}:
            assert not mentions(text, implying), text
            assert not mentions(text, ["neon"]) or not mentions(text, ["light", "sandy"]), text


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


@pytest.mark.parametrize("world", ["shapes", "scenes"])
def test_a_small_world_knows_all_words_and_reads_every_prompt_whole(world):
    tokenizer = make_tokenizer(world)
    tables = [path for path in DATA.glob("*/*.csv") if path.stem not in REAL]
    tables = [path for path in tables if (path.stem in SCENES) == (world == "scenes")]
    assert len(tables) >= {"shapes": 13, "scenes": 19}[world]
    for path in tables:
        for text in {text for pair in read_pairs(path) for text in pair}:
            (ids,) = tokenizer([text]).input_ids
            assert tokenizer.unk_token_id not in ids and len(ids) <= tokenizer.model_max_length, text


def test_every_prompt_of_a_class_conditional_backbone_names_a_class():
    labels = [normal(label) for names in classes().values() for label in names.split(", ")]
    for folder in ("fitting", "anchors"):
        for text in {text for pair in read_pairs(DATA / folder / "red_class.csv") for text in pair}:
            assert any(label in normal(text) for label in labels), text
