"""Aliases in prompts: found as whole words, kept apart from letters, never taken out of longer words."""

import pytest

from stages.control.words import written_out

WORDS = {"dog2": "dog", "<new>": "circle", "v1>": "cross"}


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ("a dog2, a dog", "a dog, a dog"),
        ("a dog22 and a hotdog2", "a dog22 and a hotdog2"),
        ("my<new>", "my circle"),
        ("<new>2", "circle 2"),
        ("一张<new>的照片", "一张 circle 的照片"),
    ],
)
def test_an_alias_is_replaced_where_it_is_a_word(prompt, text):
    assert written_out(prompt, WORDS).text == text


def test_an_alias_with_a_sign_that_touches_letters_is_refused():
    with pytest.raises(ValueError, match="'v1>' is a part of another word in 'av1>'"):
        written_out("av1>", WORDS)
