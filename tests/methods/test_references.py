"""References that cost nothing: words taken out or replaced, and random changes as large as learned ones."""

from dataclasses import replace

import pytest
import torch

from stages.backbones.text.cut import cut
from stages.interventions.rewording import Rewording
from stages.methods import load_method
from stages.methods.neutral_rewrite import NeutralRewrite
from stages.methods.random_direction import RandomDirection
from stages.methods.random_weights import RandomWeights
from stages.methods.word_filter import WordFilter
from stages.params.concept import load_concept
from tests.backbones import tiny_infinity
from tests.backbones.families import FAMILIES

DOG = load_concept("dog")
CALL = {"seeds": [1, 2], "steps": 3, "guidance": 3.0}


@pytest.mark.parametrize(
    ("method", "prompt", "given"),
    [
        (WordFilter(), "A photo of two Dogs on a sofa", "A photo on a sofa"),
        (WordFilter(), "a photo of a puppy", "a photo of a puppy"),
        (WordFilter(synonyms=True), "a photo of a Golden Retriever", "a photo"),
        (NeutralRewrite(), "the dog, two dogs, my dog", "the animal, two animals, my animal"),
        (NeutralRewrite(), "a photo of a puppy", "a photo of a puppy"),
        (NeutralRewrite(synonyms=True), "a photo of a puppy", "a photo of an animal"),
        (NeutralRewrite(synonyms=True), "a photo of poodles", "a photo of animals"),
    ],
)
def test_prompts_are_reworded(backbone, method, prompt, given):
    assert method.fit(backbone, DOG, seed=0).of(prompt) == given


def test_colours_leave_the_nouns_that_they_stand_before(backbone):
    red, circle = load_concept("red"), load_concept("circle")
    for method in (WordFilter(), NeutralRewrite()):
        assert method.fit(backbone, red, seed=0).of("a Red circle") == "a circle"
    assert WordFilter().fit(backbone, circle, seed=0).of("a photo of circles") == "a photo"
    assert NeutralRewrite().fit(backbone, circle, seed=0).of("a photo of circles") == "a photo of shapes"


@pytest.mark.parametrize("family", ["unet", "sd3", "infinity"])
def test_the_network_gets_the_other_prompt_and_its_samples_are_the_other_prompts(made, family):
    backbone = tiny_infinity.make(steps=3) if family == "infinity" else made(family)
    intervention = Rewording({"red": ""}, noun=False)
    wanted = backbone.sample(backbone.encode(["a circle", "a blue square"]), **CALL)
    with intervention.attach(backbone):
        condition = backbone.encode(["a red circle", "a blue square"])
        assert condition.prompts == ("a circle", "a blue square")
        assert torch.equal(backbone.sample(condition, **CALL), wanted)
        assert cut(backbone, ["red"] * 1) == [0]
    assert backbone.encode(["a red circle"]).prompts == ("a red circle",)


def test_words_that_no_prompt_has_and_twins_that_have_them_are_refused(backbone):
    with pytest.raises(ValueError, match=r"its words \['cat'\] stand in none of its prompts; name them in `words`"):
        WordFilter().fit(backbone, replace(DOG, words=("cat",)), seed=0)
    with pytest.raises(ValueError, match="its prompts and their neutral twins differ in none of its words"):
        NeutralRewrite().fit(backbone, replace(DOG, neutral=DOG.prompts), seed=0)
    with pytest.raises(ValueError, match="nothing says its words"):
        WordFilter().fit(backbone, replace(DOG, words=(), neutral=DOG.prompts), seed=0)
    with pytest.raises(ValueError, match="knows classes, and has no prompts to reword"):
        WordFilter().fit(FAMILIES["dit"].make(), load_concept("red_class"), seed=0)


def test_a_random_direction_is_as_long_as_the_learned_one_and_elsewhere(backbone, concept, monkeypatch):
    method = replace(load_method("mean_difference", "tiny"), samples=4)
    monkeypatch.setattr("stages.methods.random_direction.load_method", lambda *names, **how: method)
    learned, random = (m.fit(backbone, concept, seed=0) for m in (method, RandomDirection()))
    assert random.strengths == learned.strengths and random.maps.keys() == learned.maps.keys()
    for key, by in learned.maps.items():
        ours, theirs = random.maps[key]["direction"], by["direction"]
        torch.testing.assert_close(ours.norm(), theirs.norm())
        assert torch.cosine_similarity(ours, theirs, dim=0).abs() < 0.95
    (one, two) = [key for key in learned.maps if key[0] == next(iter(learned.maps))[0]][:2]
    assert torch.cosine_similarity(random.maps[one]["direction"], random.maps[two]["direction"], dim=0) > 0.999
    other = RandomDirection().fit(backbone, concept, seed=1)
    assert not torch.equal(other.maps[one]["direction"], random.maps[one]["direction"])


def test_a_random_change_is_as_large_as_the_learned_one_and_elsewhere(backbone, concept):
    learned, random = (m.fit(backbone, concept, seed=0) for m in (load_method("uce", "tiny"), RandomWeights()))
    assert learned.names == random.names
    for (name, theirs), (_, ours) in zip(learned.items(), random.items(), strict=True):
        own = backbone.addresses.parameter(name)
        torch.testing.assert_close((ours - own).norm(), (theirs - own).norm())
        assert torch.cosine_similarity((ours - own).flatten(), (theirs - own).flatten(), dim=0).abs() < 0.5


def test_methods_without_a_direction_or_weights_have_no_random_twin(backbone, concept):
    with pytest.raises(ValueError, match="uce steers along no direction on tiny"):
        RandomDirection(of="uce").fit(backbone, concept, seed=0)
    with pytest.raises(ValueError, match="word_filter made a Rewording: only changes of weights have a random twin"):
        RandomWeights(of="word_filter").fit(backbone, concept, seed=0)
