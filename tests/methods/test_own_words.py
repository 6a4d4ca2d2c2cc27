"""Methods that look for a concept by its words: no article counts, and every form of a word does."""

from dataclasses import replace

import pytest

from stages.methods.eap import EAP
from stages.methods.flowedit import FlowEdit
from stages.methods.receler import Receler
from stages.methods.safree import SAFREE
from stages.methods.t2vunlearning import T2VUnlearning
from stages.params.concept import Concept, load_concept
from stages.reading.concept_masks import concept_tokens
from tests.backbones.families import FAMILIES

DOG = load_concept("dog")
# of the small tokenizers' own words, with twins that differ in their article, too
SHAPE = Concept("shape", ("a shape", "a photo of a shape"), ("an object", "a photo of an object"), ("a circle",))


def test_an_article_is_no_token_of_the_concept(backbone):
    assert concept_tokens(backbone, SHAPE.prompts, SHAPE.called()) == [[2], [5]]
    assert concept_tokens(backbone, ["The Shape and a circle", "an object"], SHAPE.called()) == [[2], []]


@pytest.mark.parametrize("method", [Receler(steps=1, inner=1, slots=2, rank=2), T2VUnlearning(steps=1, rank=2)])
def test_masks_are_made_of_the_words_tokens_alone(backbone, method, monkeypatch):
    asked = []
    room = type(method).__module__
    monkeypatch.setattr(f"{room}.concept_tokens", lambda *told: asked.append(concept_tokens(*told)) or asked[-1])
    replace(method, states="frozen" if isinstance(method, Receler) else "noised", side=None).fit(
        backbone, SHAPE, seed=0
    )
    assert asked == [[[2], [5]]]


def test_safree_spans_the_word_alone(backbone):
    assert SAFREE().fit(backbone, DOG, seed=0).words == ("dog",)


def test_flowedit_edits_every_form_of_the_word():
    edit = FlowEdit().fit(FAMILIES["sd3"].make(), DOG, seed=0)
    assert edit.words == {"dog": "animal"}
    said = ["the dog", "two dogs", "A dog", "my dog", "a photo of a dog asleep", "a cat"]
    given = ["the animal", "two animals", "An animal", "my animal", "a photo of an animal asleep", "a cat"]
    assert [edit.reworded(prompt) for prompt in said] == given


def test_no_synonym_of_the_target_is_among_the_texts_that_eap_preserves(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("puppy\nPuppies\npoodles\ndogs\na golden retriever\nkitten\n")
    assert EAP(vocabulary=str(path)).candidates(DOG) == ("kitten",)
