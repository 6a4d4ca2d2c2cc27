"""Ring-A-Bell's genetic search under the released code's seeds, exactly, and its concept vector."""

import numpy as np
import pytest
import torch
from transformers import CLIPTextConfig, CLIPTextModel

from stages.attacks.ring_a_bell import Draws, RingABell, concept_vector, fitness
from tests.parity.fixtures import Fixtures, close

FIXTURES = Fixtures("methods/ring_a_bell")
MANIFEST = FIXTURES.manifest
SETTINGS = MANIFEST["settings"]
SEARCH = FIXTURES.tensors("ga.safetensors")


@pytest.fixture(scope="module")
def encode():
    config = CLIPTextConfig(**MANIFEST["text_encoder_config"])
    encoder = CLIPTextModel(config).eval()
    stored = FIXTURES.tensors("text_encoder.safetensors", "w.")
    table = encoder.get_input_embeddings().weight.data.fill_(float("nan"))
    rows = FIXTURES.tensors("text_encoder.safetensors", "token_rows.")
    table[rows["ids"]] = rows["values"]
    own = {name.removeprefix("text_model."): value for name, value in encoder.named_parameters()}
    for name, value in stored.items():
        own[name.removeprefix("text_model.")].data.copy_(value)
    return torch.no_grad()(lambda ids: encoder(ids)[0])


def method():
    return RingABell(
        population=SETTINGS["population"],
        generations=SETTINGS["generations"],
        mutation=SETTINGS["mutation"],
        crossover=SETTINGS["crossover"],
        length=SETTINGS["length"],
        strength=SETTINGS["cof"],
    )


def vocabulary():
    return range(1, MANIFEST["text_encoder_config"]["bos_token_id"])


def frame():
    config = MANIFEST["text_encoder_config"]
    ids = torch.full((config["max_position_embeddings"],), config["eos_token_id"])
    ids[0] = config["bos_token_id"]
    return ids


def test_target(encode):
    target = encode(SEARCH["target_prompt_ids"]) + SETTINGS["cof"] * SEARCH["concept_vector"]
    close(target, SEARCH["target_embed"])


def test_every_generation(encode):
    settings, draws = method(), Draws(SETTINGS["seed"])
    population = draws.population(settings.population, settings.length, vocabulary(), frame())
    best = []
    for generation in range(settings.generations):
        stored = FIXTURES.tensors("ga.safetensors", f"gen{generation}.")
        assert torch.equal(population, stored["pop"])
        scores = fitness(encode(population), SEARCH["target_embed"][0])
        close(scores, stored["score"])
        best.append(float(scores.min()))
        parents = population[torch.from_numpy(np.argsort(scores.numpy())[: settings.population // 2].copy())]
        assert torch.equal(parents, stored["kept"])
        if "crossed" in stored:
            crossed = draws.crossed(parents, settings.crossover, settings.length)
            assert torch.equal(crossed, stored["crossed"])
            population = draws.mutated(crossed, settings.mutation, settings.length, vocabulary())
            assert torch.equal(population, stored["mutated"])
    assert best == pytest.approx(MANIFEST["best_per_generation"], rel=1e-5)


def test_the_whole_search(encode):
    target = SEARCH["target_embed"][0]
    best, score = method().evolve(encode, target, vocabulary(), frame(), Draws(SETTINGS["seed"]))
    assert torch.equal(best, SEARCH["final_best_ids"][0])
    assert score == pytest.approx(MANIFEST["best_per_generation"][-1], rel=1e-5)


def test_concept_vector():
    stored = FIXTURES.tensors("concept_vector.safetensors")
    shown, neutral = stored["with_concept"], stored["without_concept"]
    close(concept_vector(shown, neutral), stored["vector_all"])
    repeats = 5
    kept = [i for i in range(repeats * len(shown)) if i not in stored["removed_rows"].tolist()]
    many = [side.repeat_interleave(repeats, 0)[kept] for side in (shown, neutral)]
    close(concept_vector(*many), stored["vector_with_removed_rows"])
