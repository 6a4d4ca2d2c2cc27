"""Ring-A-Bell on a tiny text encoder: it gets nearer, repeats, and finds prompts of words."""

import dataclasses

import pytest
import torch

from stages.attacks import ring_a_bell
from stages.attacks.ring_a_bell import RingABell, concept_vector, fitness
from stages.interventions.steering.steering import Steering
from stages.reading.activations import keep_token_means

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
        assert len(backbone.texts.tokenize([prompt])[0]) == method.length + 2


def test_it_searches_through_what_steers_the_text_encoder(backbone, concept):
    site = next(iter(backbone.addresses.text_sites))
    with keep_token_means(backbone, [site]) as pool:
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


def test_the_encoder_is_where_the_network_is_for_the_whole_search_and_then_where_it_was(backbone, concept, monkeypatch):
    moved, searched, to = [], [], backbone.texts.encoders()["text_encoder"].to
    monkeypatch.setattr(
        backbone.texts.encoders()["text_encoder"],
        "to",
        lambda device: moved.append((device, len(searched))) or to(device),
    )
    monkeypatch.setattr(ring_a_bell, "fitness", lambda *given: searched.append(1) or fitness(*given))
    backbone.home = torch.device("cpu", 0)  # what a GPU is to an encoder that waits on the CPU
    SMALL.search(backbone, concept, seed=0)
    assert searched and moved == [(backbone.home, 0), (torch.device("cpu"), len(searched))]


def test_a_population_without_parents_is_refused():
    assert RingABell(population=2).population == 2
    with pytest.raises(ValueError, match="population must be at least 2, .* got 1"):
        RingABell(population=1)


def test_a_length_that_does_not_fit_is_refused(backbone, concept):
    with pytest.raises(ValueError, match="length must be at most"):
        dataclasses.replace(SMALL, length=70).search(backbone, concept, seed=0)
