"""VideoEraser: the adjusted prompt's prediction is guided away from the concept, and frames share their momentum."""

from dataclasses import replace

import pytest
import torch

from stages.interventions import Stack, load, save
from stages.interventions.adjusted import Adjusted
from stages.interventions.conditional import gates_of
from stages.interventions.sld import Safety, SafetyGuidance, safety_guidance, shared
from stages.methods import load_method
from stages.methods.videoeraser import VideoEraser
from stages.params.check_methods import check_method_on, gated
from stages.params.concept import Concept
from tests.backbones.families import FAMILIES

RED = Concept("red", ("a red circle", "a red square"), ("a circle", "a square"), ("a blue circle",), synonyms=("ruby",))
PROMPTS, GUIDANCE = ["a red circle", "a blue square"], 3.0
METHOD = VideoEraser(alpha=0.0, adjust=25, momentum_scale=0.5, momentum_beta=0.4, threshold=0.2)


@pytest.mark.parametrize("family", ["cogvideox-2b", "wan", "unet"])
def test_two_guided_calls_by_hand(family):
    """The first call has the adjusted prompt and no memory, the second the plain prompt and the first's memory."""
    backbone = FAMILIES[family].make(steps=4)
    made = METHOD.fit(backbone, RED, seed=0)
    adjusted, safety = made.parts
    assert isinstance(adjusted, Adjusted) and isinstance(safety, SafetyGuidance)
    calls = backbone.calls(4)
    assert adjusted.steps == round(calls / 2)
    condition = backbone.encode(PROMPTS)
    changed, until = adjusted.filtered(backbone, condition)
    assert until == [adjusted.steps] * 2 and not torch.equal(changed.tensors["embeds"], condition.tensors["embeds"])
    empty, concept = (backbone.encode([text]).repeat(2) for text in ("", "red"))
    state = next(backbone.walk(condition, backbone.noise([0, 1]), steps=4, guidance=GUIDANCE))
    last = replace(state, step=adjusted.steps)
    numbers = safety.safety
    with torch.no_grad():
        past, wanted = torch.zeros_like(state.latent), []
        for at, asked in ((state, changed), (last, condition)):
            uncond, cond, away = (backbone.predict(at, one) for one in (empty, asked, concept))
            safe = safety_guidance(uncond, cond, away, past, numbers)
            wanted.append(uncond + GUIDANCE * (cond - safe - uncond))
            past = 0.4 * past + 0.6 * safe
            if past.ndim == 5:
                past = past.mean(1, keepdim=True).expand_as(past)
        with made.attach(backbone):
            predict = backbone.guider(condition, GUIDANCE)
            found = [predict(at) for at in (state, last)]
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(wanted[0], backbone.guider(condition, GUIDANCE)(state))


def test_frames_share_the_mean_of_their_momentum_and_pictures_keep_theirs():
    clip = torch.arange(24.0).view(1, 3, 2, 2, 2)
    assert torch.equal(shared(clip), clip[:, 1:2].expand(1, 3, 2, 2, 2))
    picture = torch.arange(8.0).view(1, 2, 2, 2)
    assert torch.equal(shared(picture), picture)
    assert not Safety().together


def test_it_is_the_same_from_its_file_and_does_nothing_at_nothing(backbone, tmp_path):
    call = {"seeds": [1, 2], "steps": 4, "guidance": GUIDANCE}
    plain = backbone.sample(backbone.encode(PROMPTS), **call)
    made = METHOD.fit(backbone, RED, seed=0)
    with made.attach(backbone):
        wanted = backbone.sample(backbone.encode(PROMPTS), **call)
    assert not torch.allclose(wanted, plain, atol=1e-4)
    save(made, tmp_path)
    with load(tmp_path).attach(backbone):
        assert torch.equal(backbone.sample(backbone.encode(PROMPTS), **call), wanted)
    nothing = replace(METHOD, adjust=0, scale=0.0).fit(backbone, RED, seed=0)
    with nothing.attach(backbone):
        assert torch.equal(backbone.sample(backbone.encode(PROMPTS), **call), plain)


def test_words_synonyms_and_steps(backbone):
    made = replace(METHOD, synonyms=True, adjust=1, warmup=25).fit(backbone, RED, seed=0)
    assert isinstance(made, Stack)
    adjusted, safety = made.parts
    assert adjusted.words == ("red", "ruby") and safety.prompt == "red, ruby"
    assert adjusted.steps == 1 and safety.safety.warmup == 2
    with pytest.raises(ValueError, match="name them in `words`"):
        METHOD.fit(backbone, replace(RED, words=("cat",)), seed=0)
    dit = FAMILIES["dit"].make()
    with pytest.raises(ValueError, match="has no tokens"):
        METHOD.fit(dit, RED, seed=0)


def test_the_papers_settings():
    paper = load_method("videoeraser", "cogvideox-5b")
    assert (paper.alpha, paper.adjust, paper.adjust_of, paper.warmup) == (0.01, 13, 50, 0)
    assert (paper.scale, paper.threshold, paper.momentum_scale, paper.momentum_beta) == (1000.0, 1.0, 0.5, 0.5)


def test_without_adjusted_steps_there_is_no_gate(backbone):
    assert gates_of(replace(METHOD, adjust=0).fit(backbone, RED, seed=0)) == []
    assert gated("videoeraser", "sd-shapes") and not gated("videoeraser@adjust=0", "sd-shapes")


@pytest.mark.parametrize(
    "fields", ["adjust=0,pool=mean", "adjust=0,alpha=0.2", "scale=0.0,threshold=0.1", "scale=0.0,warmup=3"]
)
def test_a_field_of_a_stage_that_is_off_is_refused(fields):
    with pytest.raises(ValueError, match="has no effect with (adjust: 0|scale: 0.0)"):
        check_method_on(f"videoeraser@{fields}", "sd-shapes")
