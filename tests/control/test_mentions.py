"""A concept's words in prompts: every form of them, other words in their place, and prompts without them."""

import pytest

from stages.control.mentions import are_nouns, mentions, plural, reworded, without

DOG = {"dog": "animal"}


def said(text, words):
    return [text[place.start : place.end] for place in mentions(text, words)]


def test_words_are_found_in_any_case_and_number_as_whole_words_alone():
    assert said("A dog, two Dogs, dogma and hot-dog: DOG", ["dog"]) == ["dog", "Dogs", "dog", "DOG"]
    assert said("van  Gogh and Monet", ["Monet", "Van Gogh"]) == ["van  Gogh", "Monet"]
    assert said("a golden retriever", ["golden", "golden retriever"]) == ["golden retriever"]
    assert said("一只狗在公园", ["狗"]) == ["狗"]
    assert not mentions("a cat", ["dog"]) and not mentions("a cat", [])
    assert [place.plural for place in mentions("a dog and dogs", ["dog"])] == [False, True]


@pytest.mark.parametrize(
    ("one", "many"),
    [
        *[("dog", "dogs"), ("box", "boxes"), ("puppy", "puppies"), ("toy", "toys"), ("church", "churches")],
        *[("woman", "women"), ("gas pump", "gas pumps"), ("sheep", "sheep"), ("Person", "People")],
    ],
)
def test_plurals(one, many):
    assert plural(one) == many


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("a dog", "an animal"),
        ("the dog", "the animal"),
        ("two dogs", "two animals"),
        ("A dog", "An animal"),
        ("Dogs at play", "Animals at play"),
        ("my dog", "my animal"),
        ("a photo of a DOG", "a photo of an ANIMAL"),
        ("a dog's ball", "an animal's ball"),
        ("a cat  and  dogma", "a cat  and  dogma"),
    ],
)
def test_other_words_take_their_place_by_meaning(text, other):
    assert reworded(text, DOG) == other


def test_a_word_that_stands_before_another_goes_alone():
    assert reworded("an orange circle, a red one", {"orange": "", "red": ""}) == "a circle, a one"
    assert without("an orange circle", ["orange"], noun=False) == "a circle"
    assert without("a red apple", ["red"], noun=False) == "an apple"


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("a photo of a dog", "a photo"),
        ("a photo of two dogs asleep on a rug", "a photo asleep on a rug"),
        ("a cat and a dog playing", "a cat playing"),
        ("a dog and a cat", "a cat"),
        ("a dog's ball", "ball"),
        ("my dog", ""),
        ("a hot summer, dogma", "a hot summer, dogma"),
    ],
)
def test_with_a_noun_goes_what_cannot_stand_without_it(text, rest):
    assert without(text, ["dog"], noun=True) == rest


def test_a_word_that_ends_a_prompt_is_a_noun():
    assert are_nouns(["dog"], ["a dog", "a dog show"]) and are_nouns(["Van Gogh"], ["a field by van gogh, in oil"])
    assert not are_nouns(["red"], ["a red shape", "a photo of a red shape"])
