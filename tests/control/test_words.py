"""Aliases next to letters, in scripts without spaces, and inside other words."""

import pytest

from stages.control.mentions import reworded
from stages.control.words import occurrences, written_out

WORDS = {"<new>": "red cross"}


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ("a <new> here", "a red cross here"),
        ("一张<new>的照片", "一张 red cross 的照片"),
        ("これは<new>です", "これは red cross です"),
        ("my<new>", "my red cross"),
        ("<new>2", "red cross 2"),
        ("foto_<new>", "foto_ red cross"),
        ("<new><new>", "red cross red cross"),
        ("<new>, (<new>)", "red cross, (red cross)"),
    ],
)
def test_an_alias_of_signs_is_found_next_to_anything(prompt, text):
    found = written_out(prompt, WORDS)
    assert found.text == text
    assert len(found.places["<new>"]) == prompt.count("<new>")
    assert {found.text[start:end] for start, end in found.places["<new>"]} == {"red cross"}


def test_an_alias_of_letters_is_a_word_in_any_script():
    assert written_out("一张sks的照片", {"sks": "cross"}).text == "一张 cross 的照片"
    assert written_out("a sks here", {"sks": "cross"}).text == "a cross here"


@pytest.mark.parametrize("prompt", ["a sksdog", "a newsks", "a sks2"])
def test_an_alias_of_letters_inside_another_word_is_that_other_word(prompt):
    assert written_out(prompt, {"sks": "cross"}).text == prompt


def test_a_prompt_without_aliases_stays_as_it_is():
    assert written_out("一只狗 and sksdog", {}).text == "一只狗 and sksdog"
    assert written_out("a red cross", WORDS).text == "a red cross"


def test_words_are_found_where_no_letter_of_their_script_touches_them():
    assert occurrences("一只狗在公园", "狗") == [(2, 3)]
    assert occurrences("小cat在", "cat") == [(1, 4)]
    assert occurrences("a cat, concatenated", "cat") == [(2, 5)]
    assert occurrences("a  red\n cross", "red cross") == [(3, 13)]
    assert occurrences("ein Maß, Maße", "Maß") == [(4, 7)]


def test_phrases_are_replaced_in_scripts_without_spaces():
    assert reworded("一只狗在公园", {"狗": "猫"}) == "一只猫在公园"
    assert reworded("a cat, concatenated", {"cat": r"\1"}) == r"a \1, concatenated"
