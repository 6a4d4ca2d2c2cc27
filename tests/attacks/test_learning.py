"""Attacks that learn: inside the victim, of pictures of the unedited network, and they come nearer to them."""

import dataclasses

import pytest
import torch

from stages.attacks.base import Victim
from stages.attacks.concept_inversion import ConceptInversion
from stages.attacks.relearning import Relearning
from stages.attacks.shared.pictures import drawn_pictures
from stages.interventions.guidance import PromptGuidance
from stages.interventions.lowrank import LowRank
from stages.interventions.weights import Weights
from stages.methods.shared.trained_weights import choose
from tests.backbones import tiny_infinity
from tests.backbones.families import FAMILIES

INVERSION = ConceptInversion(images=4, initialiser="shape", templates=("a {}",), steps=40, batch=4, lr=0.3, flip=0.0)


def victim_of(backbone):
    weights = Weights.copy(backbone, choose(backbone, "cross-attn"))
    for value in weights.values:
        value.data += 0.3 * torch.randn(value.shape, generator=torch.Generator().manual_seed(0)).to(value)
    return Victim(weights)


def loss_on(backbone, victim, intervention, prompt, pictures, draws=8):
    """The mean training loss of pictures captioned with a prompt."""
    values = []
    with torch.no_grad(), victim.attach(backbone), intervention.attach(backbone):
        condition = backbone.encode([prompt]).repeat(len(pictures))
        for seed in range(draws):
            state, target = backbone.examples(pictures, torch.Generator().manual_seed(seed))
            values.append(float(backbone.distance(backbone.predict(state, condition), target)))
    return sum(values) / draws


@pytest.mark.parametrize("family", ["unet", "sd3", "cogvideox-2b", "infinity"])
@pytest.mark.parametrize("vectors", [1, 4])
def test_an_inverted_word_fits_the_pictures_better_than_the_word_it_started_from(family, vectors, concept):
    """On the four kinds of network: UNet, MMDiT, video, and bits scale by scale."""
    backbone = tiny_infinity.make(steps=4) if family == "infinity" else FAMILIES[family].make(steps=2)
    victim, attack = victim_of(backbone), dataclasses.replace(INVERSION, vectors=vectors)
    attempt = attack.search(backbone, concept, seed=0, victim=victim)
    embedding = attempt.intervention
    assert all(rows.shape[0] == vectors for rows in embedding.tensors().values())
    assert attempt.prompts == ("a <found>",) and attempt.found[0].calls == 160
    pictures = drawn_pictures(backbone, concept.prompts, 4, 0)
    start = attack.inversion().start(backbone, list(embedding.tensors()))
    learned, before = (loss_on(backbone, victim, one, "a <found>", pictures) for one in (embedding, start))
    assert learned < before


def test_pictures_are_drawn_before_the_victim_is_attached(backbone, concept, monkeypatch):
    seen = []
    own = backbone.sample
    monkeypatch.setattr(
        backbone, "sample", lambda c, **run: seen.append(dict(backbone.attached.originals)) or own(c, **run)
    )
    dataclasses.replace(INVERSION, steps=1).search(backbone, concept, seed=0, victim=victim_of(backbone))
    assert seen and all(not swapped for swapped in seen)


def test_the_floor_learns_from_retained_pictures(backbone, concept, monkeypatch):
    asked = []
    own = backbone.encode
    monkeypatch.setattr(backbone, "encode", lambda prompts: asked.append(tuple(prompts)) or own(prompts))
    attack = dataclasses.replace(INVERSION, steps=1, pictures_of="retain")
    found = attack.search(backbone, concept, seed=0)
    assert asked[0][: len(concept.retain)] == concept.retain and found.starts == concept.prompts[:1]


def test_what_defends_by_guidance_is_learned_through(backbone, concept):
    """A word learned of the bare network would ignore the defence, which only the sampler meets."""
    attack = dataclasses.replace(INVERSION, steps=3)
    plain, through = (
        attack.search(backbone, concept, seed=0, victim=victim).intervention.tensors()["text_encoder"]
        for victim in (Victim(), Victim(PromptGuidance("a red shape")))
    )
    assert not torch.equal(plain, through)


@pytest.mark.parametrize("train", ["lora", "cross-attn", "full"])
def test_relearning_comes_nearer_to_the_pictures_on_top_of_the_victim(backbone, concept, train):
    victim = victim_of(backbone)
    attack = Relearning(images=2, train=train, rank=4, steps=30, batch=2, lr=0.01)
    attempt = attack.search(backbone, concept, seed=0, victim=victim)
    assert isinstance(attempt.intervention, LowRank if train == "lora" else Weights)
    assert attempt.prompts == attempt.starts == concept.prompts
    pictures = drawn_pictures(backbone, concept.prompts, 2, 0)
    fresh = attack.fresh(backbone, 0)
    learned, before = (
        loss_on(backbone, victim, one, concept.prompts[0], pictures) for one in (attempt.intervention, fresh)
    )
    assert learned < before
