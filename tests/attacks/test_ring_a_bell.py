"""Ring-A-Bell on a tiny text encoder: it gets nearer, repeats, and finds prompts of words."""

import dataclasses
from contextlib import nullcontext

import pytest
import torch
from tokenizers.processors import TemplateProcessing

from stages.attacks import ring_a_bell
from stages.attacks.base import Victim
from stages.attacks.ring_a_bell import RingABell, concept_vector, fitness
from stages.interventions.steering.steering import Steering
from stages.params.concept import Concept
from stages.reading.activations import keep_token_means
from tests.backbones import tiny_infinity

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


def steering(backbone, concept):
    """A defence inside the text encoder."""
    site = next(iter(backbone.addresses.text_sites))
    with keep_token_means(backbone, [site]) as pool:
        backbone.encode([*concept.prompts, *concept.neutral])
    source, other = pool.get(site, 0).chunk(2)
    by = {"direction": torch.linspace(-1, 1, 16), "source": source.mean(0), "other": other.mean(0)}
    return Steering("shift", {(site, 0): by}, {(site, 0): {"cond": 5.0, "uncond": 0.0}}, gate="nearest")


@pytest.mark.parametrize("through", ["defended", "undefended"])
def test_its_aim_is_the_undefended_encoders_whatever_reads_the_search(backbone, concept, through):
    """A direction through the defence would be the defence's own, and the attack would disarm itself."""
    defence, method = steering(backbone, concept), dataclasses.replace(SMALL, through=through, generations=4)
    found = method.search(backbone, concept, seed=0, victim=Victim(defence))
    shown, neutral, start = (
        backbone.encode(side).tensors["embeds"] for side in (concept.prompts, concept.neutral, found.notes["start"])
    )
    wanted = start + SMALL.strength * concept_vector(shown, neutral)
    with defence.attach(backbone) if through == "defended" else nullcontext():
        read = backbone.encode(found.prompts).tensors["embeds"]
    assert fitness(read, wanted).tolist() == pytest.approx(found.notes["distance"])
    plain = method.search(backbone, concept, seed=0)
    assert (plain.notes["distance"] == found.notes["distance"]) == (through == "undefended")


def test_every_start_has_a_search_of_its_own_and_says_what_it_found(backbone, concept):
    method = dataclasses.replace(SMALL, attempts=5, generations=2, starts="prompts")
    found = method.search(backbone, concept, seed=0)
    assert len(found.prompts) == len(set(found.prompts)) == 5
    assert found.starts == tuple(concept.prompts[i % 2] for i in range(5))
    assert all(one.steps == 2 and one.calls == 24 and one.distance > 0 for one in found.found)


def test_a_tokenizer_without_a_mark_of_the_beginning_has_a_frame_too():
    """As T5's: the paper's frame begins with a mark that real T5 tokenizers do not have."""
    made = tiny_infinity.make(steps=4)
    tokenizer = made.texts.tokenizers["text_encoder"]
    end = tokenizer.eos_token
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"$A {end}", special_tokens=[(end, tokenizer.eos_token_id)]
    )
    concept = Concept("red", ("a red shape", "a red circle"), ("a shape", "a circle"), ("a blue circle",))
    bench = ring_a_bell.Bench(made, made.texts.encoders()["text_encoder"])
    assert bench.first == 0
    assert bench.frame(3)[3] == tokenizer.eos_token_id and (bench.frame(3)[4:] == tokenizer.pad_token_id).all()
    found = dataclasses.replace(SMALL, generations=8).search(made, concept, seed=0)
    assert len(found.prompts[0].split()) == SMALL.length
    assert len(made.texts.tokenize(found.prompts)[0]) == SMALL.length + 1
    first = dataclasses.replace(SMALL, generations=1).search(made, concept, seed=0)
    assert found.notes["distance"][0] < first.notes["distance"][0]


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
