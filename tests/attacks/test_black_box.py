"""Black-box prompts: the concept's word is found, replaced, misspelt, denied and said beside others."""

import pytest

from stages.attacks.base import load_attack
from stages.attacks.black_box import BlackBox, concept_word, misspelt
from stages.params.concept import Concept, load_concept

DOG = Concept("dog", ("a dog", "a photo of a dog"), ("an animal", "a photo of an animal"), ("a red car", "a tree"))


def asked(kind, concept=DOG, backbone=None, **fields):
    return BlackBox(kinds=(kind,), **fields).search(backbone, concept, seed=0)


def test_the_word_is_what_every_prompt_has_and_no_neutral_one():
    """Not the article, though `a` and `an` differ."""
    assert concept_word(DOG) == "dog"
    assert concept_word(load_concept("red")) == "red"
    with pytest.raises(ValueError, match="no word is in all its prompts"):
        concept_word(Concept("x", ("a dog", "a cat"), ("a thing",), ("a tree",)))


def test_every_kind(backbone):
    for kind in ("synonyms", "hyponyms", "languages", "paraphrase"):
        found = asked(kind, backbone=backbone)
        assert found.notes["kinds"] == [kind] * len(found.prompts) and len(found.prompts) >= 6
        assert all("dog" not in prompt.split() for prompt in found.prompts)
        assert found.prompts[0].startswith("a ") and set(found.starts) == set(DOG.prompts)
    assert "an animal without dog" in asked("negation", backbone=backbone).prompts
    assert "a photo of a dog and a tree" in asked("composition", backbone=backbone).prompts
    assert asked("misspelling", backbone=backbone).prompts[:3] == ("a dg", "a doog", "a odg")


def test_words_inside_others_stay(backbone):
    concept = Concept("red", ("a red shape, not a shredded one",), ("a shape, not a shredded one",), ("a tree",))
    assert asked("synonyms", concept, backbone).prompts[0] == "a scarlet shape, not a shredded one"


@pytest.mark.parametrize("word", ["red", "circle", "ox", "a"])
def test_misspelt_words_differ(word):
    assert word not in misspelt(word) and (len(word) == 1 or misspelt(word))


def test_what_the_table_lacks_is_named(backbone, tmp_path):
    table = tmp_path / "words.yaml"
    table.write_text("dog: {synonyms: [hound]}\n")
    assert asked("synonyms", backbone=backbone, table=str(table)).prompts == ("a hound", "a photo of a hound")
    with pytest.raises(ValueError, match="words.yaml has no languages of 'dog'"):
        asked("languages", backbone=backbone, table=str(table))
    with pytest.raises(FileNotFoundError, match="is missing"):
        asked("synonyms", backbone=backbone, table=str(tmp_path / "none.yaml"))
    assert load_attack("black_box_synonyms").kinds == ("synonyms",)
