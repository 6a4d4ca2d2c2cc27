"""Prompts that have more tokens than the text encoders read."""

import pytest
import torch

from stages.backbones.text.cut import cut
from stages.control.edits import edit_condition
from tests.backbones.families import FAMILIES
from tests.backbones.tiny_infinity import make as make_infinity

TEXTS = [name for name in FAMILIES if name != "dit"] + ["infinity"]


def made(name, **settings):
    return make_infinity(**settings) if name == "infinity" else FAMILIES[name].make(**settings)


def first_cut(backbone, words=40):
    """The smallest number of words of one token each that is cut."""
    return next(n for n in range(1, words) if cut(backbone, ["red " * n])[0])


@pytest.mark.parametrize("name", TEXTS)
def test_a_token_that_does_not_fit_changes_nothing_and_the_last_that_fits_does(name):
    backbone = made(name)
    first = first_cut(backbone)
    assert cut(backbone, ["", "red " * (first - 1), "red " * first, "red " * (first + 3)]) == [0, 0, 1, 4]
    for words, equal in ((first, True), (first - 1, False)):
        same, other = (backbone.encode([f"{'red ' * (words - 1)}{word}"]).tensors for word in ("red", "blue"))
        assert all(torch.equal(value, other[key]) for key, value in same.items()) == equal


def test_a_prompt_is_cut_only_if_no_encoder_reads_it_whole():
    backbone = FAMILIES["sd3"].make(text_length=17)
    by_encoder = backbone.texts.cut_by_encoder(["red " * 20])
    assert by_encoder == {"text_encoder": [10], "text_encoder_2": [10], "text_encoder_3": [5]}
    assert cut(backbone, ["red " * 20, "red " * 12]) == [5, 0]


def test_without_its_long_encoder_the_others_keep_their_own_limit():
    whole = FAMILIES["sd3"].make(text_length=30)
    whole.pipeline.text_encoder_3 = whole.pipeline.tokenizer_3 = None
    without = type(whole)("tiny", whole.settings, whole.pipeline)
    assert without.texts.names == ("text_encoder", "text_encoder_2") and cut(without, ["red " * 20]) == [10]


def test_prompts_count_as_the_pipeline_cleans_them():
    backbone = FAMILIES["pixart"].make()
    assert cut(backbone, ["RED " * 20]) == cut(backbone, ["red " * 20])


def test_aliases_count_with_their_words():
    backbone = FAMILIES["unet"].make()
    prompt = "red " * (first_cut(backbone) - 2)
    assert cut(backbone, [f"{prompt}<new>"]) != [1]
    with edit_condition(backbone, words={"<new>": "red red red"}):
        assert cut(backbone, [f"{prompt}<new>"]) == [2]


def test_a_network_of_classes_cuts_nothing():
    assert cut(FAMILIES["dit"].make(), ["a very long prompt " * 100]) == [0]
