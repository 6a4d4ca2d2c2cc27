"""Learned words: untouched they change nothing, only they train and resume, and diffusers draws the same with them."""

import functools

import pytest
import torch
from diffusers import StableDiffusionPipeline

from stages.backbones.core.base import Settings
from stages.backbones.unet import UNet
from stages.interventions import Stack, load, save
from stages.methods.textual_inversion import TextualInversion
from stages.seeds import Purpose, generator
from stages.store.record import recording
from tests.backbones.families import FAMILIES
from tests.backbones.tiny_infinity import make
from tests.tiny import BUILD

step_generator = functools.partial(generator, Purpose.STEP)

CALL = {"seeds": [1, 2], "steps": 3, "guidance": 3.0}
PICTURES = "data/yellow_cross"


def method(**settings):
    return TextualInversion(**({"data": PICTURES, "alias": "<new>", "initialiser": "blue circle"} | settings))


def learned(backbone, concept, **settings):
    return method(steps=3, batch=2, lr=0.1, **settings).fit(backbone, concept, seed=0)


@pytest.mark.parametrize("mode", ["input", "output"])
def test_untouched_vectors_change_nothing_bitwise(backbone, mode):
    embedding = method(mode=mode).start(backbone, ["text_encoder"])
    plain = backbone.encode(["a photo of a blue circle", "a red cross"]).tensors["embeds"]
    with embedding.attach(backbone):
        same = backbone.encode(["a photo of a <new>", "a red cross"]).tensors["embeds"]
        assert torch.equal(backbone.encode(["a photo of a blue circle"]).tensors["embeds"][0], plain[0])
    assert torch.equal(same, plain)


@pytest.mark.parametrize("mode", ["input", "output"])
def test_it_changes_its_own_word_only_and_survives_its_file(backbone, concept, tmp_path, mode):
    embedding = learned(backbone, concept, mode=mode)
    prompts = ["a photo of a <new>", "a photo of a blue circle"]
    plain = backbone.sample(backbone.encode(["a photo of a blue circle"] * 2), seeds=[1, 1], steps=3, guidance=3.0)
    with embedding.attach(backbone):
        edited = backbone.sample(backbone.encode(prompts), seeds=[1, 1], steps=3, guidance=3.0)
    assert not torch.allclose(edited[0], plain[0], atol=1e-4) and torch.allclose(edited[1], plain[1], atol=1e-6)
    save(embedding, tmp_path)
    with load(tmp_path).attach(backbone):
        assert torch.equal(backbone.sample(backbone.encode(prompts), seeds=[1, 1], steps=3, guidance=3.0), edited)
    assert not backbone.attached.words and not backbone.attached.condition_edits and not backbone.attached.text_swaps


def test_input_mode_reaches_a_t5_whose_table_has_two_homes(concept):
    tiny = make(size=(8, 8))
    plain = tiny.encode(["a photo of a blue circle"]).tensors["embeds"]
    embedding = method().start(tiny, ["text_encoder"])
    with torch.no_grad(), embedding.attach(tiny):
        assert torch.equal(tiny.encode(["a photo of a <new>"]).tensors["embeds"], plain)
        embedding.vectors[0].add_(1)
        assert not torch.allclose(tiny.encode(["a photo of a <new>"]).tensors["embeds"], plain)
    learned(tiny, concept)


@pytest.mark.parametrize("mode", ["input", "output"])
@pytest.mark.parametrize("family", ["xl", "sd3", "flux-schnell", "pixart", "sana", "cogvideox-2b", "wan"])
def test_every_text_encoder_of_every_family_learns_the_word(family, mode, concept):
    tiny = FAMILIES[family].make(steps=2)
    if (family, mode) == ("sana", "output"):
        with pytest.raises(ValueError, match="tiny has no tokens that stand for .*use mode input"):
            learned(tiny, concept, mode=mode)
        return
    embedding = learned(tiny, concept, mode=mode)
    start = method(mode=mode).start(tiny, embedding.parts)
    assert all((new != old).any(1).all() for new, old in zip(embedding.vectors, start.vectors, strict=True))
    prompts = ["a photo of a blue circle", "a red cross"]
    plain = tiny.encode(prompts).tensors
    expected = tiny.texts.tokenizers if mode == "input" else [*tiny.texts.starts, *({"pooled"} & set(plain))]
    assert embedding.parts == list(expected)
    for words, same in ((start, True), (embedding, False)):
        with words.attach(tiny):
            found = tiny.encode(["a photo of a <new>", "a red cross"]).tensors
        for key in {"embeds", "pooled"} & set(plain):
            assert torch.allclose(found[key][0], plain[key][0], atol=1e-5) == same, key
            assert torch.allclose(found[key][1], plain[key][1], atol=1e-5), key


def test_a_picture_teaches_a_video_backbone_as_a_clip_at_rest():
    tiny = FAMILIES["cogvideox-2b"].make(steps=2)
    pictures = torch.rand(2, 3, *tiny.picture_size(), generator=step_generator(0, 0))
    clips = torch.stack([pictures] * tiny.frames(), 1)
    (one, target), (same, wanted) = (tiny.examples(images, step_generator(0, 1)) for images in (pictures, clips))
    assert torch.equal(one.latent, same.latent) and torch.equal(target, wanted)
    assert one.latent.shape[1:] == tiny.latent_shape()


def test_output_mode_replaces_the_rows_of_the_span_and_input_mode_reaches_others(backbone, concept):
    prompt, plain = "a photo of a <new>", backbone.encode(["a photo of a blue circle"]).tensors["embeds"]
    changed = {}
    for mode in ("input", "output"):
        with learned(backbone, concept, mode=mode).attach(backbone):
            found = backbone.encode([prompt]).tensors["embeds"]
        changed[mode] = (found != plain).any(-1)[0].nonzero().flatten().tolist()
    assert changed["output"] == [5, 6]  # begin, a, photo, of, a, then blue, circle
    assert set(changed["output"]) < set(changed["input"])


def test_only_the_vector_gets_gradients(backbone):
    embedding = method().start(backbone, ["text_encoder"])
    state, target = backbone.examples(torch.rand(2, 3, 8, 8, generator=step_generator(0, 0)), step_generator(0, 1))
    with embedding.attach(backbone):
        condition = backbone.encode(["a <new>"]).repeat(2)
        backbone.distance(backbone.predict(state, condition), target).backward()
    assert embedding.vectors[0].grad.abs().sum() > 0
    assert all(p.grad is None for part in backbone.modules().values() for p in part.parameters())


def test_a_resumed_training_equals_an_unbroken_one(backbone, concept, tmp_path, monkeypatch):
    unbroken = method(steps=4, batch=2, lr=0.1).fit(backbone, concept, seed=0)
    calls, plain = [], backbone.examples

    def interrupted(images, owner, **options):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return plain(images, owner, **options)

    monkeypatch.setattr(backbone, "examples", interrupted)
    with pytest.raises(KeyboardInterrupt), recording(tmp_path, "train", params={}) as record:
        record.pause = 0  # every step is kept
        method(steps=4, batch=2, lr=0.1).fit(backbone, concept, seed=0)
    monkeypatch.setattr(backbone, "examples", plain)
    with recording(tmp_path, "train", params={}):
        resumed = method(steps=4, batch=2, lr=0.1).fit(backbone, concept, seed=0)
    assert torch.equal(resumed.vectors[0], unbroken.vectors[0])


def test_several_vectors_and_one_for_all(backbone, concept):
    three = method(initialiser="circle", vectors=3).start(backbone, ["text_encoder"])
    assert three.initialiser == "circle circle circle" and three.vectors[0].shape[0] == 3
    shared = method(shared=True).start(backbone, ["text_encoder"])
    assert shared.vectors[0].shape[0] == 1
    with shared.attach(backbone):
        assert torch.isfinite(backbone.encode(["a <new>"]).tensors["embeds"]).all()


def test_two_words_in_one_prompt(backbone, concept):
    one = learned(backbone, concept)
    two = learned(backbone, concept, alias="<other>", mode="output")
    prompts = ["a <new> and a <other>"]
    with Stack(one, two).attach(backbone):
        both = backbone.encode(prompts).tensors["embeds"]
    with Stack(two, one).attach(backbone):
        torch.testing.assert_close(backbone.encode(prompts).tensors["embeds"], both)
    with one.attach(backbone):
        assert not torch.equal(backbone.encode(["a <new> and a blue circle"]).tensors["embeds"], both)


def test_a_template_may_name_the_word_twice(backbone, concept):
    embedding = learned(backbone, concept, templates=("a {} and a {}",))
    with embedding.attach(backbone):
        found = backbone.encode(["a <new> and a <new>"]).tensors["embeds"]
    assert not torch.equal(found, backbone.encode(["a blue circle and a blue circle"]).tensors["embeds"])


def test_a_prompt_too_long_for_the_word_is_refused(backbone, concept):
    embedding = learned(backbone, concept)
    with embedding.attach(backbone), pytest.raises(ValueError, match="is truncated"):
        backbone.encode([" ".join(["red"] * 12) + " <new>"])


@pytest.mark.parametrize("kind", ["zero", "random"])
def test_controls_are_not_learned(backbone, concept, kind):
    control = method(control=kind).fit(backbone, concept, seed=0)
    start = method().start(backbone, ["text_encoder"])
    norms = [made.vectors[0].norm(dim=1) for made in (control, start)]
    assert torch.equal(*norms) is False or kind == "random"
    expected = torch.zeros_like(norms[1]) if kind == "zero" else norms[1]
    torch.testing.assert_close(norms[0], expected)


def test_another_encoder_is_refused(backbone, concept):
    embedding = learned(backbone, concept)
    other = UNet.create(
        "other",
        Settings(path="none", family="unet", build=BUILD),
        backbone.texts.tokenizers["text_encoder"],
        backbone.vae,
        seed=5,
    )
    with pytest.raises(ValueError, match="another text_encoder than other has"), embedding.attach(other):
        pass
    assert not other.attached.words


def test_missing_pictures_are_named(backbone, concept):
    with pytest.raises(FileNotFoundError, match="nowhere: no PNG or JPEG"):
        method(data="nowhere").fit(backbone, concept, seed=0)


def test_diffusers_draws_the_same_with_the_exported_word(backbone, concept, tmp_path):
    embedding = learned(backbone, concept, initialiser="circle", alias="<new>")
    with embedding.attach(backbone):
        wanted = backbone.sample(backbone.encode(["a photo of a <new>"] * 2), **CALL)
    (path,) = embedding.export(tmp_path)
    backbone.save(tmp_path / "sd")
    pipe = StableDiffusionPipeline.from_pretrained(tmp_path / "sd", safety_checker=None, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    pipe.load_textual_inversion(str(path))
    found = pipe(
        ["a photo of a <new>"] * 2,
        latents=backbone.noise(CALL["seeds"]),
        num_inference_steps=CALL["steps"],
        guidance_scale=CALL["guidance"],
        output_type="pt",
    ).images
    assert (found - wanted).abs().max() < 1e-4
