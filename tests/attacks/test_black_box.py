"""Black-box prompts: the concept's word is found, replaced, misspelt, denied and said beside others."""

from dataclasses import replace

import pytest

from stages.attacks.base import load_attack
from stages.attacks.black_box import BlackBox, misspelt
from stages.params.concept import Concept, load_concept

DOG = Concept("dog", ("a dog", "a photo of a dog"), ("an animal", "a photo of an animal"), ("a red car", "a tree"))


def asked(kind, concept=DOG, backbone=None, **fields):
    return BlackBox(kinds=(kind,), **fields).search(backbone, concept, seed=0)


def test_the_concepts_own_words_are_replaced(backbone):
    """Whatever its twins lack, and not the article, though `a` and `an` differ."""
    assert "an animal without dog" in asked("negation", backbone=backbone).prompts
    named = replace(DOG, words=("photo",))
    assert asked("misspelling", named, backbone).starts == ("a photo of a dog",) * 3
    with pytest.raises(ValueError, match=r"concept dog: its words \['wolf'\] stand in none of its prompts; name them"):
        asked("negation", replace(DOG, words=("wolf",)), backbone)
    with pytest.raises(ValueError, match="concept x: nothing says its words"):
        asked("negation", Concept("x", ("a dog",), ("a dog",), ("a tree",)), backbone)


def test_the_concepts_own_synonyms_go_before_the_tables(backbone, tmp_path):
    concept = replace(load_concept("dog"), synonyms=("animal that barks", "old friend"))
    found = asked("synonyms", concept, backbone, table=str(tmp_path / "none.yaml"))
    assert found.prompts[:3] == ("an animal that barks", "an old friend", "a photo of an animal that barks")
    assert len(found.prompts) == 2 * len(concept.prompts)
    shipped = {
        text for text in asked("synonyms", load_concept("dog"), backbone).prompts if text.startswith("a photo of")
    }
    assert {"a photo of a golden retriever", "a photo of a poodle"} <= shipped  # which the table does not have there
    assert len(shipped) == len(load_concept("dog").synonyms)


def test_members_are_kinds_of_what_the_words_name(backbone, tmp_path):
    table = str(tmp_path / "none.yaml")
    pets = Concept(
        "pets",
        ("a photo of a {}", "a photo of pets"),
        ("a photo of a thing", "a photo of things"),
        ("a tree",),
        words=("pet",),
        members=("cat", "dog"),
    )
    found = asked("hyponyms", pets, backbone, table=table)
    assert found.prompts == ("a photo of cats", "a photo of dogs") and set(found.starts) == {"a photo of pets"}
    each = replace(pets, words=())  # called by its members, of which the table knows kinds
    said = asked("hyponyms", each, backbone).prompts
    assert "a photo of a tabby" in said and "a photo of a poodle" in said
    with pytest.raises(FileNotFoundError, match="none.yaml is missing: it says hyponyms of 'cat'"):
        asked("hyponyms", each, backbone, table=table)


def test_every_kind(backbone):
    for kind in ("synonyms", "hyponyms", "languages", "paraphrase"):
        found = asked(kind, backbone=backbone)
        assert found.notes["kinds"] == [kind] * len(found.prompts) and len(found.prompts) >= 6
        assert all("dog" not in prompt.split() for prompt in found.prompts)
        assert found.prompts[0].startswith("a ") and set(found.starts) == set(DOG.prompts)
    assert "a photo of a dog and a tree" in asked("composition", backbone=backbone).prompts
    assert asked("misspelling", backbone=backbone).prompts[:3] == ("a dg", "a doog", "a odg")


def test_words_inside_others_stay(backbone):
    concept = Concept("red", ("a red shape, not a shredded one",), ("a shape, not a shredded one",), ("a tree",))
    assert asked("synonyms", concept, backbone).prompts[0] == "a scarlet shape, not a shredded one"
    assert asked("misspelling", concept, backbone).prompts[0] == "a rd shape, not a shredded one"


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
    assert load_attack("black_box_synonyms", "any").kinds == ("synonyms",)
