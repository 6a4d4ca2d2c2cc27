"""What EAP may preserve: the lines of a vocabulary, without the concept's own words, nearest to each prompt."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from stages.backbones.core.base import Condition
from stages.methods import load_method
from stages.methods.eap import EAP
from stages.methods.shared import vocabulary
from stages.methods.shared.vocabulary import means, nearest, spread
from stages.params.concept import Concept, load_concept


def test_a_vocabulary_holds_no_word_of_the_concept(concept, tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("circle\n\n red \nred square\nblue\n")
    assert EAP(vocabulary=str(path)).candidates(concept) == ("circle", "blue")
    path.write_text("red\n")
    with pytest.raises(ValueError, match="no words in it but the concept's own"):
        EAP(vocabulary=str(path)).candidates(concept)
    with pytest.raises(FileNotFoundError, match="nowhere.txt is missing: the words that may be preserved, one a line"):
        EAP(vocabulary="nowhere.txt").candidates(concept)


def test_words_are_the_same_whatever_their_case_and_what_stands_beside_them(tmp_path):
    dog = Concept("dog", ("A dog", "A photo of a Dog."), ("An animal", "A photo of an animal."), ("a cat",))
    path = tmp_path / "words.txt"
    path.write_text("a cat\nDOG\na dog's bone\nhot-dog\nphoto\ndogma\n(dog)\n")
    assert EAP(vocabulary=str(path)).candidates(dog) == ("a cat", "photo", "dogma")


def test_the_papers_vocabulary_is_there_and_large_enough():
    method, dog = load_method("eap", "sd14"), load_concept("dog")
    words, lines = method.candidates(dog), Path(method.vocabulary).read_text().splitlines()
    assert len(set(lines)) == len(lines) and "dog" in lines
    assert len(words) > 5 * method.centres and "dog" not in words and "puppy" not in words and "kitten" in words


def test_the_nearest_are_the_same_in_however_many_batches_they_are_read(backbone, monkeypatch):
    words, condition = ["red", "a blue circle", "green", "square", "a red circle"], backbone.encode(["a red circle"])
    embeds, target = backbone.encode(words).tensors["embeds"].flatten(1), condition.tensors["embeds"].flatten(1)
    values = {"cosine": torch.cosine_similarity(embeds, target), "l2": -(embeds - target).norm(dim=1)}
    for nearness, value in values.items():
        with monkeypatch.context() as patch:
            whole = nearest(backbone, condition, words, 3, nearness)
            patch.setattr(vocabulary, "TOGETHER", 2)
            few = nearest(backbone, condition, words, 3, nearness)
        assert few == pytest.approx(whole, abs=1e-5) and list(few) == list(whole) and next(iter(few)) == "a red circle"
        assert list(whole) == [words[i] for i in value.argsort(descending=True)[:3]]


def test_the_texts_of_a_mixture_are_centres_of_nearness():
    """Three clusters of nearness, one word each; the numbers are those of a k-means by hand."""
    near = {"puppy": -1.0, "wolf": -1.1, "cat": -4.0, "horse": -4.2, "cow": -4.4, "car": -9.0}
    assert spread(near, 3) == ["puppy", "horse", "car"] or spread(near, 3) == ["wolf", "horse", "car"]
    torch.testing.assert_close(
        means(torch.tensor(list(near.values())).double(), 3), torch.tensor([-9, -4.2, -1.05]).double()
    )
    assert spread(near, 6) == spread(near, 9) == list(near)
    values = torch.randn(500, generator=torch.Generator().manual_seed(0)).double()
    centres = means(values, 20)
    owner = (values[:, None] - centres).abs().argmin(1)
    for i, centre in enumerate(centres):  # each centre is the mean of the numbers that are nearest to it
        torch.testing.assert_close(values[owner == i].mean(), centre)


def test_the_released_preset_takes_centres_of_far_more_words_and_the_loss_of_final_latents():
    method = load_method("eap", "sd14")
    assert (method.space, method.nearest, method.nearness, method.centres) == ("clean", 1000, "l2", 100)
    assert load_method("eap", "infinity-2b").space == "prediction"


def test_the_nearest_by_a_backbone_in_bf16_are_those_of_its_numbers_in_float32():
    draws = torch.Generator().manual_seed(0)
    words, padding = [f"word {i}" for i in range(40)], torch.randn(60, 16, generator=draws)
    said = torch.randn(len(words) + 1, 4, 16, generator=draws)
    rows = torch.cat([said, padding.expand(len(said), -1, -1)], dim=1).bfloat16()
    numbers = dict(zip([*words, "red"], rows, strict=True))

    def encoder(dtype):
        def encode(texts):
            return Condition(tuple(texts), {"embeds": torch.stack([numbers[text] for text in texts]).to(dtype)})

        return SimpleNamespace(encode=encode)

    half, full = encoder(torch.bfloat16), encoder(torch.float32)
    few = torch.cosine_similarity(*(half.encode(texts).tensors["embeds"].flatten(1) for texts in (words, ["red"])))
    assert len(few.unique()) < len(words) / 2  # bf16 itself cannot rank them
    ranked = list(nearest(half, half.encode(["red"]), words, 40, "cosine"))
    assert ranked == list(nearest(full, full.encode(["red"]), words, 40, "cosine"))
    exact = torch.cosine_similarity(rows[:-1].double().flatten(1), rows[-1:].double().flatten(1))
    assert ranked == [words[i] for i in exact.argsort(descending=True)]


def test_only_what_may_be_preserved_is_sampled_beforehand(backbone, concept, tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("circle\nsquare\nblue\ngreen\n")
    EAP(vocabulary=str(path), nearest=1, states="frozen", steps=1).fit(backbone, concept, seed=0)
    assert 1 <= len(set(backbone.trajectories.pools) - set(concept.prompts)) <= len(concept.prompts)
