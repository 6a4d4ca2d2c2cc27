"""A concept says its own words, and may be several concepts at once."""

from dataclasses import replace

import pytest

from stages.control.mentions import mentions
from stages.params import names
from stages.params.check import checked
from stages.params.concept import Concept, load_concept, replaced_words

PAINTERS = Concept(
    name="painters",
    prompts=("a painting by {}", "art of {} on a wall", "a famous painting"),
    neutral=("a painting", "art on a wall", "a painting"),
    retain=("a photo",),
    members=("Van Gogh", "Monet"),
)


def test_no_article_is_a_word_of_the_concept():
    dog = Concept("dog", ("a dog", "A photo of a dog."), ("an animal", "A photo of an animal."), ("a cat",))
    assert dog.called() == ("dog",) and replaced_words(dog.pairs()) == {"dog": "animal"}
    assert load_concept("dog").called() == ("dog",)


def test_words_come_before_members_and_members_before_what_twins_lack():
    assert PAINTERS.called() == ("Van Gogh", "Monet")
    assert replace(PAINTERS, words=("painter",)).called() == ("painter",)
    assert Concept("red", ("a red circle",), ("a circle",), ("a cat",)).called() == ("red",)
    assert PAINTERS.called() == PAINTERS.called([("a boat", "a ship")])
    assert Concept("red", ("red",), ("blue",), ("a cat",)).called([("a boat", "a ship")]) == ("boat",)


@pytest.mark.parametrize("name", names("concepts"))
def test_every_concept_names_itself_in_each_of_its_prompts(name):
    checked("concepts", name)
    concept = load_concept(name)
    words = concept.words or concept.members
    for prompt, neutral in concept.pairs():
        assert mentions(prompt, words) and not mentions(neutral, words), prompt
    for prompt in concept.retain:
        assert not mentions(prompt, (*words, *concept.synonyms)), prompt


def test_every_member_stands_in_every_prompt_with_a_place():
    assert PAINTERS.pairs() == [
        ("a painting by Van Gogh", "a painting"),
        ("a painting by Monet", "a painting"),
        ("art of Van Gogh on a wall", "art on a wall"),
        ("art of Monet on a wall", "art on a wall"),
        ("a famous painting", "a painting"),
    ]
    assert replace(PAINTERS, name="same").pairs() == PAINTERS.pairs()
    hundred = replace(PAINTERS, prompts=("{}",), neutral=("a person",), members=tuple(f"name{i}" for i in range(100)))
    assert len(hundred.pairs()) == 100 and set(hundred.neutral) == {"a person"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"members": ()}, "a prompt has {}, and no members stand there"),
        ({"prompts": ("a photo",), "neutral": ("a thing",)}, "no prompt has the member 'Van Gogh', nor {} for it"),
        ({"words": ("dog", " ")}, "words has an empty entry"),
    ],
)
def test_a_concept_that_contradicts_itself_is_refused(change, message):
    with pytest.raises(ValueError, match=f"concept painters: {message}"):
        fields = {"prompts": ("a painting by {}",), "neutral": ("a painting",), "members": PAINTERS.members} | change
        Concept("painters", retain=("a photo",), **fields)
