"""Ring-A-Bell on a tiny text encoder: it gets nearer, repeats, and finds prompts of words."""

import dataclasses

import pytest
import torch

from stages.attacks.base import load_attack
from stages.attacks.ring_a_bell import RingABell, concept_vector, fitness
from stages.interventions.steering import Steering
from stages.recorder import pooling

SMALL = RingABell(population=12, generations=1, length=3, readable=True)


def test_more_generations_come_nearer_and_repeat(backbone, concept):
    first = SMALL.search(backbone, concept, seed=0)
    method = dataclasses.replace(SMALL, generations=15)
    later = method.search(backbone, concept, seed=0)
    assert later.notes["distance"][0] < first.notes["distance"][0]
    again = method.search(backbone, concept, seed=0)
    assert (again.prompts, again.notes) == (later.prompts, later.notes)
    assert method.search(backbone, concept, seed=1).prompts != later.prompts


def test_its_prompts_are_words_that_encode_to_what_was_searched(backbone, concept):
    method = dataclasses.replace(SMALL, attempts=2, generations=3)
    found = method.search(backbone, concept, seed=0)
    assert len(found.prompts) == len(found.notes["start"]) == 2
    for prompt in found.prompts:
        assert len(prompt.split()) == method.length and "<" not in prompt
        assert len(backbone.tokenize([prompt])[0]) == method.length + 2


def test_it_searches_through_what_steers_the_text_encoder(backbone, concept):
    site = next(iter(backbone.text_sites))
    with pooling(backbone, [site]) as pool:
        backbone.encode([*concept.prompts, *concept.neutral])
    source, other = pool.get(site, 0).chunk(2)
    by = {"direction": torch.linspace(-1, 1, 16), "source": source.mean(0), "other": other.mean(0)}
    plain = SMALL.search(backbone, concept, seed=0)
    with Steering("shift", {(site, 0): by}, {(site, 0): {"cond": 5.0, "uncond": 0.0}}, gate="nearest").attach(backbone):
        steered = SMALL.search(backbone, concept, seed=0)
        shown, neutral, start, found = (
            backbone.encode(side).tensors["embeds"]
            for side in (concept.prompts, concept.neutral, steered.notes["start"], steered.prompts)
        )
    assert steered.notes["distance"] != plain.notes["distance"]
    wanted = start + SMALL.strength * concept_vector(shown, neutral)
    assert fitness(found, wanted).tolist() == pytest.approx(steered.notes["distance"])


def test_a_length_that_does_not_fit_is_refused(backbone, concept):
    with pytest.raises(ValueError, match="length must be at most"):
        dataclasses.replace(SMALL, length=70).search(backbone, concept, seed=0)


@pytest.mark.parametrize("name", ["ring_a_bell", "ring_a_bell_paper"])
def test_its_files_load(name):
    assert isinstance(load_attack(name), RingABell)
