"""SAFREE's equations by hand, and what it does to prompts with the concept and without."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from diffusers import UNet2DConditionModel

from stages.backbones.unet import UNet
from stages.interventions import load, save
from stages.interventions.reattention import attenuated, factors_of, reattend
from stages.interventions.safree import Course, Filter, projected, projection, rejection, triggers
from stages.methods import load_method
from stages.methods.safree import SAFREE
from stages.params import load_params
from tests.backbones.families import FAMILIES

CALL = {"seeds": [1, 2], "steps": 4, "guidance": 3.0}
PROMPTS = ["a red circle", "a blue square"]
COURSE = Course(4.0, 5.333, 2.5)


def test_a_word_is_a_trigger_if_the_prompt_without_it_is_further_away_than_without_the_others():
    assert triggers(torch.tensor([1.0, 1.0, 2.0]), 0.01).tolist() == [False, False, True]
    assert triggers(torch.tensor([1.0, 1.0, 1.005]), 0.01).tolist() == [False, False, False]
    assert triggers(torch.tensor([1.0, 1.0, 1.005]), 0.0).tolist() == [False, False, True]
    assert triggers(torch.tensor([2.0]), 0.0).tolist() == [False]


def test_a_token_is_taken_into_the_prompts_span_and_out_of_the_concepts():
    concept, inside = torch.tensor([[2.0, 0.0, 0.0]]), torch.tensor([[0.0, 3.0, 3.0], [0.0, 1.0, 1.0]])
    token = torch.tensor([[5.0, 7.0, 9.0]])  # (0, 8, 8) along (0, 1, 1), which has nothing of the concept
    torch.testing.assert_close(projected(token, concept, inside), torch.tensor([[0.0, 8.0, 8.0]]).double())
    slanted = torch.tensor([[1.0, 1.0, 0.0]])  # first 6 in both, then (0, 6, 0): the order matters
    torch.testing.assert_close(projected(token, concept, slanted), torch.tensor([[0.0, 6.0, 0.0]]).double())


@pytest.mark.parametrize("overlap", [0.0, 0.3, 0.6])
def test_nothing_of_the_concept_is_left_in_the_released_order(overlap):
    draws = torch.Generator().manual_seed(0)
    concept = torch.randn(1, 768, generator=draws).double()
    concept /= concept.norm()
    shared, spread = (torch.randn(n, 768, generator=draws).double() for n in (1, 7))
    inside = shared + 0.5 * spread + overlap * 8 * concept * torch.rand(7, 1, generator=draws).double()
    token = shared + 6 * concept
    assert abs(projected(token, concept, inside) @ concept.T) < 1e-12 < abs(token @ concept.T)
    printed = projection(rejection(token, concept), inside)  # the paper's order hands some of it back
    assert abs(printed @ concept.T) > 0.1


def test_several_phrases_span_the_concept():
    concept, inside = torch.eye(4)[:2], torch.eye(4)
    torch.testing.assert_close(projected(torch.ones(1, 4), concept, inside), torch.tensor([[0.0, 0, 1, 1]]).double())


def test_steps_are_counted_as_released():
    """Those of indices up to round(10 sigmoid(2 k (10 z - t))), k = 2.5, t = 5.333: 11 at most, and one at least."""
    course = Course(10.0, 5.333, 2.5)
    assert [course.steps(z) for z in (0.0, 0.4, 0.5333, 0.6, 1.0)] == [1, 1, 6, 11, 11]
    assert course.steps(0.52) == 1 + round(10 / (1 + 2.718281828 ** (-5 * (5.2 - 5.333))))


def most_of(name, backbone):
    """The largest number of projected steps of a preset on a backbone of that file's number of steps."""
    method, steps = load_method(name, backbone), load_params("backbones", backbone)["steps"]
    return Course(method.gamma * steps / method.gamma_of, method.midpoint, method.slope)


def test_samplers_of_few_steps_are_filtered_too():
    assert [most_of("safree", name).steps(z) for name in ("sd14", "flux-schnell") for z in (0.0, 1.0)] == [
        1,
        11,
        1,
        2,
    ]
    for name in ("sd-shapes", "flux-shapes"):  # all steps
        assert most_of("safree", name).steps(0.0) >= load_params("backbones", name)["steps"]


class Likes(Filter):
    """Whose vectors of prompts are known: with `red` along the first axis, without along the second."""

    def _vectors(self, backbone, prompts):
        width = backbone.encode(prompts).tensors["embeds"].shape[-1]
        eye = torch.eye(width, dtype=torch.float64)
        return {"text_encoder": torch.stack([eye[0] if "red" in prompt else eye[1] for prompt in prompts])}


def test_only_the_words_tokens_change_and_only_for_so_many_steps(backbone):
    condition, filtering = backbone.encode(PROMPTS), Likes(["red"], 0.01, COURSE)
    found, until = filtering.filtered(backbone, condition)
    before, after = condition.tensors["embeds"], found.tensors["embeds"]
    changed = (before != after).any(-1)
    (position,) = changed[0].nonzero().flatten().tolist()
    assert backbone.texts.tokenize(PROMPTS)[0][position] == backbone.texts.tokenize(["red"])[0][1]
    wanted = torch.zeros_like(after[0, position])
    wanted[1] = before[0, position, 1]  # into axes 0 and 1, out of axis 0
    torch.testing.assert_close(after[0, position], wanted)
    assert not changed[1].any()
    for row, steps in enumerate(until):  # z is the mean over the prompt's own tokens, projected one and all
        size = len(backbone.texts.tokenize(PROMPTS[row : row + 1])[0])
        tokens = before[row, :size].double()
        kept = torch.zeros_like(tokens)
        kept[:, 1] = tokens[:, 1]
        z = 1 - torch.nn.functional.cosine_similarity(tokens, kept).mean()
        assert steps == COURSE.steps(float(z))


def test_a_prompt_of_one_word_is_projected_if_that_is_the_concept(backbone):
    condition = backbone.encode(["red", "Red", "circle"])
    found, _ = Likes(["red"], 0.01, COURSE).filtered(backbone, condition)
    changed = (condition.tensors["embeds"] != found.tensors["embeds"]).any(-1).any(-1)
    assert changed.tolist() == [True, True, False]


def test_every_encoder_of_several_loses_the_words_tokens():
    backbone = FAMILIES["sd3"].make()
    condition, second = backbone.encode(PROMPTS), backbone.texts.starts["text_encoder_3"]

    class Both(Likes):
        """The same for both encoders."""

        def _vectors(self, backbone, prompts):
            (vectors,) = super()._vectors(backbone, prompts).values()
            return {"text_encoder": vectors, "text_encoder_3": vectors}

    after = Both(["red"], 0.01, COURSE).filtered(backbone, condition)[0].tensors["embeds"]
    changed = (condition.tensors["embeds"] != after).any(-1)
    clip, t5 = changed[0].nonzero().flatten().tolist()
    assert clip < second <= t5 and not changed[1].any()
    said = (backbone.texts.tokenizers[part]("a red circle").input_ids for part in ("text_encoder", "text_encoder_3"))
    for ids, part, place in zip(said, ("text_encoder", "text_encoder_3"), (clip, t5 - second), strict=True):
        assert backbone.texts.tokenizers[part].decode(ids[place]).strip() == "red"
    vectors = Filter(["red"], 0.01, COURSE)._vectors(backbone, PROMPTS)
    assert vectors.keys() == {"text_encoder", "text_encoder_3", "pooled"}


class Lasts(Likes):
    """Whose rows are used in known numbers of steps."""

    def filtered(self, backbone, condition):
        return super().filtered(backbone, condition)[0], [3, 2]


def test_the_prediction_of_the_projected_prompt_serves_the_first_steps_of_its_row_alone(backbone):
    with Lasts(["red"], 0.01, COURSE).attach(backbone):
        conditions = backbone.guider(backbone.encode(PROMPTS), 3.0).roles
        assert list(conditions)[-1] == "filtered"
        parts = {"uncond": torch.zeros(2, 1, 1), "cond": torch.ones(2, 1, 1), "filtered": torch.full((2, 1, 1), 5.0)}
        used = []
        for step in range(4):
            with backbone.attached.at(step, {}):
                used.append(backbone.attached.combine(parts, 1.0).flatten().tolist())
    assert used == [[5.0, 5.0], [5.0, 5.0], [5.0, 1.0], [1.0, 1.0]]


@pytest.mark.parametrize("family", ["unet", "flux-dev", "sd3", "cogvideox-2b"])
def test_it_is_the_identity_wherever_no_word_is_a_trigger(family, concept):
    backbone = FAMILIES[family].make()
    condition = backbone.encode(PROMPTS)
    plain = backbone.sample(condition, **CALL)
    with SAFREE(alpha=1e6).fit(backbone, concept, seed=0).attach(backbone):  # a third row may round otherwise
        torch.testing.assert_close(backbone.sample(condition, **CALL), plain, rtol=0, atol=1e-4)


def test_words_are_the_concepts_and_synonyms_if_asked(backbone, concept):
    assert SAFREE().fit(backbone, concept, seed=0).words == ("red",)
    said = replace(concept, words=("red", "circle"), synonyms=("scarlet", "crimson"))
    assert SAFREE().fit(backbone, said, seed=0).words == ("red", "circle")
    assert SAFREE(synonyms=True).fit(backbone, said, seed=0).words == ("red", "circle", "scarlet", "crimson")
    with pytest.raises(ValueError, match="has no tokens"):
        SAFREE().fit(FAMILIES["dit"].make(), concept, seed=0)


def test_low_frequencies_that_are_stronger_than_those_of_the_plain_prompt_are_weakened():
    plain = torch.randn(1, 3, 6, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(attenuated(plain, plain, 0.2), plain)
    torch.testing.assert_close(attenuated(0.5 * plain, plain, 0.2), 0.5 * plain)  # weaker everywhere
    double = attenuated(2 * plain, plain, 0.2)
    before, after = (torch.fft.fftshift(torch.fft.fft2(value), dim=(-2, -1)) for value in (2 * plain, double))
    torch.testing.assert_close(after[..., 3, 4], 0.2 * before[..., 3, 4])  # the mean, at the centre
    assert (after - before).abs()[..., 5, 6].max() < 1e-4  # a high one
    square = torch.zeros_like(before)
    square[..., 2:4, 3:5] = -0.8 * before[..., 2:4, 3:5]  # a square of side 2 around the centre, as released
    wanted = 2 * plain + torch.fft.ifft2(torch.fft.ifftshift(square, dim=(-2, -1))).real
    torch.testing.assert_close(double, wanted)


def test_skips_of_stable_diffusion_are_those_beside_1280_and_640_channels():
    with torch.device("meta"):
        net = UNet2DConditionModel(cross_attention_dim=768)
    skips = UNet.skips(SimpleNamespace(net=net))
    assert list(skips.values()) == [1280] * 7 + [640] * 3 + [320] * 2
    widths = {path: net.get_submodule(path).conv1.in_channels for path in skips}
    assert all(widths[path] > before for path, before in skips.items())
    factors = factors_of(skips, (0.9, 0.2))
    assert [factor for _, factor in factors.values()] == [0.9] * 7 + [0.2] * 3


def test_re_attention_touches_the_filtered_rows_skips_alone(backbone):
    inputs = {}
    path = list(backbone.skips())[0]
    before, width = backbone.skips()[path], backbone.net.get_submodule(path).conv1.in_channels
    value = torch.randn(3, width, 4, 4, generator=torch.Generator().manual_seed(0))
    with reattend(backbone, (0.5, 0.5), "filtered"):
        layer = backbone.net.get_submodule(path)
        seen = layer.register_forward_pre_hook(lambda module, args: inputs.__setitem__("value", args[0]))
        roles = {"uncond": slice(0, 1), "cond": slice(1, 2), "filtered": slice(2, 3)}
        with backbone.attached.at(0, roles), torch.no_grad():
            layer(value, torch.zeros(3, layer.time_emb_proj.in_features))
        seen.remove()
    changed = inputs["value"] != value
    assert not changed[:2].any() and not changed[2, :before].any() and changed[2, before:].any()


def test_re_attention_changes_pictures_of_the_concept_alone_and_is_saved(backbone, concept, tmp_path):
    condition = backbone.encode(PROMPTS)
    plain = Likes(["red"], 0.01, Course(8.0, 0.0, 2.5))
    with plain.attach(backbone):
        filtered = backbone.sample(condition, **CALL)
    with Likes(["red"], 0.01, Course(8.0, 0.0, 2.5), reattention=(0.5, 0.0)).attach(backbone):
        pictures = backbone.sample(condition, **CALL)
    assert not torch.allclose(pictures[0], filtered[0]) and torch.allclose(pictures[1], filtered[1], atol=1e-5)
    own = SAFREE(reattention=(0.5, 0.0), alpha=0.0).fit(backbone, concept, seed=0)
    save(own, tmp_path)
    assert load(tmp_path).spec() == own.spec()


def test_re_attention_is_refused_without_skips(concept):
    with pytest.raises(ValueError, match="has no skips from earlier layers to later ones; leave reattention out"):
        SAFREE(reattention=(0.9, 0.2)).fit(FAMILIES["sd3"].make(), concept, seed=0)


def test_as_released_it_guides_away_from_the_phrases_too(backbone, concept):
    said = replace(concept, synonyms=("scarlet",))
    method = SAFREE(negative=True, synonyms=True, alpha=1e6)
    condition = backbone.encode(PROMPTS)
    with method.fit(backbone, said, seed=0).attach(backbone):
        assert backbone.attached.guidance_edits[1][1] == {"negative": "red, scarlet"}
        both = backbone.sample(condition, **CALL)
    assert not torch.allclose(both, backbone.sample(condition, **CALL), atol=1e-4)
