"""SAFREE's equations by hand, and what it does to prompts with the concept and without."""

from dataclasses import replace

import pytest
import torch

from stages.interventions.safree import Filter, projected, share_of_steps, triggers
from stages.methods.safree import SAFREE
from tests.backbones.families import FAMILIES

CALL = {"seeds": [1, 2], "steps": 4, "guidance": 3.0}
PROMPTS = ["a red circle", "a blue square"]


def test_a_word_is_a_trigger_if_the_prompt_without_it_is_further_away_than_without_the_others():
    assert triggers(torch.tensor([1.0, 1.0, 2.0]), 0.01).tolist() == [False, False, True]
    assert triggers(torch.tensor([1.0, 1.0, 1.005]), 0.01).tolist() == [False, False, False]
    assert triggers(torch.tensor([1.0, 1.0, 1.005]), 0.0).tolist() == [False, False, True]
    assert triggers(torch.tensor([2.0]), 0.0).tolist() == [False]


def test_a_token_is_taken_out_of_the_concepts_span_and_into_that_of_the_prompt():
    concept, inside = torch.tensor([[2.0, 0.0, 0.0]]), torch.tensor([[0.0, 3.0, 3.0], [0.0, 1.0, 1.0]])
    token = torch.tensor([[5.0, 7.0, 9.0]])  # (0, 7, 9) out of the concept's span, (0, 8, 8) along (0, 1, 1)
    torch.testing.assert_close(projected(token, concept, inside), torch.tensor([[0.0, 8.0, 8.0]]).double())
    slanted = torch.tensor([[1.0, 1.0, 0.0]])  # first (0, 7, 9), then half of 7 in both: the order matters
    torch.testing.assert_close(projected(token, concept, slanted), torch.tensor([[3.5, 3.5, 0.0]]).double())


def test_steps_go_from_a_half_to_almost_all():
    assert share_of_steps(1.0) == pytest.approx(0.5)
    assert share_of_steps(0.0) == pytest.approx(0.7310586)
    assert share_of_steps(-1.0) == pytest.approx(0.8807971)


class Likes(Filter):
    """Whose vectors of prompts are known: with `red` along the first axis, without along the second."""

    def _vectors(self, backbone, prompts):
        width = backbone.encode(prompts).tensors["embeds"].shape[-1]
        eye = torch.eye(width, dtype=torch.float64)
        return {"text_encoder": torch.stack([eye[0] if "red" in prompt else eye[1] for prompt in prompts])}


def test_only_the_words_tokens_change_and_only_for_so_many_steps(backbone):
    condition, filtering = backbone.encode(PROMPTS), Likes(["red"], 0.01, 4.0)
    found, until = filtering.filtered(backbone, condition)
    before, after = condition.tensors["embeds"], found.tensors["embeds"]
    changed = (before != after).any(-1)
    (position,) = changed[0].nonzero().flatten().tolist()
    assert backbone.texts.tokenize(PROMPTS)[0][position] == backbone.texts.tokenize(["red"])[0][1]
    wanted = torch.zeros_like(after[0, position])
    wanted[1] = before[0, position, 1]  # out of axis 0, into axes 0 and 1
    torch.testing.assert_close(after[0, position], wanted)
    assert not changed[1].any() and until[0] in (2, 3) and until[1] == 2


def test_every_encoder_of_several_loses_the_words_tokens():
    backbone = FAMILIES["sd3"].make()
    condition, second = backbone.encode(PROMPTS), backbone.texts.starts["text_encoder_3"]

    class Both(Likes):
        """The same for both encoders."""

        def _vectors(self, backbone, prompts):
            (vectors,) = super()._vectors(backbone, prompts).values()
            return {"text_encoder": vectors, "text_encoder_3": vectors}

    after = Both(["red"], 0.01, 4.0).filtered(backbone, condition)[0].tensors["embeds"]
    changed = (condition.tensors["embeds"] != after).any(-1)
    clip, t5 = changed[0].nonzero().flatten().tolist()
    assert clip < second <= t5 and not changed[1].any()
    said = (backbone.texts.tokenizers[part]("a red circle").input_ids for part in ("text_encoder", "text_encoder_3"))
    for ids, part, place in zip(said, ("text_encoder", "text_encoder_3"), (clip, t5 - second), strict=True):
        assert backbone.texts.tokenizers[part].decode(ids[place]).strip() == "red"
    assert Filter(["red"], 0.01, 4.0)._vectors(backbone, PROMPTS).keys() == {"text_encoder", "text_encoder_3", "pooled"}


def test_the_prediction_of_the_projected_prompt_serves_the_first_steps_of_its_row_alone(backbone):
    filtering = Likes(["red"], 0.01, 4.0)
    with filtering.attach(backbone):
        conditions = backbone.guider(backbone.encode(PROMPTS), 3.0).roles
        assert list(conditions)[-1] == "filtered"
        parts = {"uncond": torch.zeros(2, 1, 1), "cond": torch.ones(2, 1, 1), "filtered": torch.full((2, 1, 1), 5.0)}
        used = []
        for step in range(4):
            with backbone.attached.at(step, {}):
                used.append(backbone.attached.combine(parts, 1.0).flatten().tolist())
    assert used[0] == used[1] == [5.0, 5.0] and used[3] == [1.0, 1.0] and used[2][1] == 1.0


@pytest.mark.parametrize("family", ["unet", "flux-dev", "sd3", "cogvideox-2b"])
def test_it_is_the_identity_at_no_steps_and_wherever_no_word_is_a_trigger(family, concept):
    backbone = FAMILIES[family].make()
    condition = backbone.encode(PROMPTS)
    plain = backbone.sample(condition, **CALL)
    with SAFREE(gamma=0.0).fit(backbone, concept, seed=0).attach(backbone):
        assert torch.equal(backbone.sample(condition, **CALL), plain)
    with SAFREE(alpha=1e6).fit(backbone, concept, seed=0).attach(backbone):  # a third row may round otherwise
        torch.testing.assert_close(backbone.sample(condition, **CALL), plain, rtol=0, atol=1e-4)


def test_words_are_those_that_neutral_prompts_lack(backbone, concept):
    assert SAFREE().fit(backbone, concept, seed=0).words == ("red",)
    said = replace(concept, words=("red", "circle"))
    assert SAFREE().fit(backbone, said, seed=0).words == ("red", "circle")
    with pytest.raises(ValueError, match="has no tokens"):
        SAFREE().fit(FAMILIES["dit"].make(), concept, seed=0)
