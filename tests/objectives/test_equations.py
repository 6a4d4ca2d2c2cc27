"""Guidance, safe guidance, FlowEdit and rerouting on numbers worked out by hand."""

import pytest
import torch

from stages import objectives as eq
from stages.interventions import flowedit as resample
from stages.interventions.flowedit import Course, Resample, flow_edit
from stages.interventions.sld import Safety, SafetyGuidance
from stages.methods.flowedit import FlowEdit
from stages.objectives import rerouting
from stages.params.concept import Concept
from tests.backbones.families import FAMILIES

PROMPTS = ["a red circle", "a blue square"]
CALL = {"seeds": [1, 2], "steps": 3, "guidance": 3.0}


def row(*values):
    return torch.tensor([values])


# guidance


def test_guidance_is_linear_in_both_predictions():
    uncond, cond = row(2.0, -1.0), row(5.0, 0.0)
    assert eq.negative_guidance(uncond, cond, 1.5).tolist() == [[-2.5, -2.5]]
    assert eq.away(row(1.0, 4.0), uncond, cond, 1.5).tolist() == [[-3.5, 2.5]]
    assert eq.guide(uncond, cond, 1.5).tolist() == [[6.5, 0.5]]
    assert torch.equal(eq.negative_guidance(uncond, cond, 0.0), uncond)
    assert torch.equal(eq.guide(uncond, cond, 1.0), cond)
    assert torch.equal(eq.away(uncond, uncond, cond, 2.0), eq.guide(uncond, cond, -2.0))


def test_negative_guidance_is_the_noise_of_the_density_divided_by_the_concepts():
    """p(x) (p(x) / p(x | c))^s of N(0, 1) and N(m, 1) is N(-s m, 1), whose noise is x + s m."""
    x, mean, scale = row(-1.0, 0.5, 2.0), 1.5, 0.8
    torch.testing.assert_close(eq.negative_guidance(x, x - mean, scale), x + scale * mean)


def test_projected_out_by_hand():
    assert eq.projected_out(row(3.0, 4.0, 5.0), row(2.0, 0.0, 0.0)).tolist() == [[0, 4, 5]]
    found = eq.projected_out(torch.tensor([[1.0], [3.0]]), torch.tensor([[1.0], [1.0]]))
    torch.testing.assert_close(found, torch.tensor([[-1.0], [1.0]]))


# safe latent diffusion: mu = min(1, 2 |cond - concept|) where cond - concept < 0.1, that is 0.4, 0 and 1

PREDICTIONS = {"uncond": row(0.0, 0.0, 0.0), "cond": row(1.0, 0.5, 0.0), "safety": row(1.2, 0.2, 0.9)}
SAFETY = Safety(warmup=1, scale=2.0, threshold=0.1, momentum_scale=0.5, momentum_beta=0.4)
GUIDED = [  # uncond + 3 (cond - uncond - safe), safe = mu (concept - uncond) + 0.5 momentum
    [3.0, 1.5, 0.0],  # warm-up: safe = 0.48, 0, 0.9 is not taken out, but momentum becomes 0.6 of it
    [3 * (1 - 0.48 - 0.5 * 0.288), 1.5, 3 * (-0.9 - 0.5 * 0.54)],
    [3 * (1 - 0.48 - 0.5 * 0.4896), 1.5, 3 * (-0.9 - 0.5 * 0.918)],  # momentum 0.4 before + 0.6 safe
]


def test_safe_guidance_by_hand_with_warm_up_and_momentum(backbone):
    with SafetyGuidance("a red shape", SAFETY).attach(backbone):
        for _ in range(2):  # the second sampler starts with no momentum
            for step, wanted in enumerate(GUIDED):
                with backbone.attached.at(step, {}):
                    torch.testing.assert_close(backbone.attached.combine(PREDICTIONS, 3.0), row(*wanted))


def test_safe_guidance_that_is_sure_everywhere_takes_the_whole_concept_out(backbone):
    sure = Safety(warmup=0, scale=1e6, threshold=10.0, momentum_scale=0.0, momentum_beta=0.0)
    with SafetyGuidance("a red shape", sure).attach(backbone), backbone.attached.at(0, {}):
        torch.testing.assert_close(
            backbone.attached.combine(PREDICTIONS, 3.0), 3 * (PREDICTIONS["cond"] - PREDICTIONS["safety"])
        )


def test_safe_guidance_of_scale_zero_is_the_identity(backbone):
    condition = backbone.encode(PROMPTS)
    plain = backbone.sample(condition, **CALL)
    with SafetyGuidance("a red shape", Safety(warmup=0, scale=0.0)).attach(backbone):
        assert torch.equal(backbone.sample(condition, **CALL), plain)


# FlowEdit of x = 2 under v_src = z and v_tar = 2 z + 1 at the times 1, 0.5, 0


def pair(before, after, step):
    return before, 2 * after + 1


def single(latent, step):
    return 2 * latent + 1


@pytest.mark.parametrize(
    ("course", "wanted"),
    [
        (Course(2), 1.0),  # n = 4: both at 4, 2 - (9 - 4) / 2 = -0.5; n = 0: 1 and -1.5, -0.5 - (-2 - 1) / 2
        (Course(1), 0.0),  # n = 4: both at 3, 2 - (7 - 3) / 2
        (Course(1, average=2), 0.5),  # n = 4 and n = 0: 2 - ((7 - 3) + (3 - 1)) / 2 / 2
        (Course(2, plain=1), -0.5),  # -0.5 as above, noised to -0.5 + 1 - 2 = -1.5, then -1.5 - (-2) / 2
        (Course(0), 2.0),
    ],
)
def test_flow_edit_by_hand(course, wanted):
    noise = iter([row(4.0), row(0.0)])
    edited = flow_edit(row(2.0), pair, single, torch.tensor([1.0, 0.5, 0.0]), lambda: next(noise), course)
    assert edited.item() == pytest.approx(wanted)


@pytest.fixture(scope="module")
def flow():
    return FAMILIES["sd3"].make()


def test_flow_edit_with_equal_prompts_returns_its_source(flow):
    source, condition = flow.noise([3, 4]), flow.encode(PROMPTS)
    same = Resample({}, Course(3, average=2), 2.0, 2.0)
    edited = same.edited(flow, source, condition, condition, [1, 2], 4)
    torch.testing.assert_close(edited, source, rtol=0, atol=1e-5)
    other = same.edited(flow, source, condition, flow.encode(PROMPTS[::-1]), [1, 2], 4)
    assert not torch.allclose(other, source, atol=1e-3)


def test_flow_edit_moves_in_float32_what_the_network_sees_in_bfloat16(flow, monkeypatch):
    seen, asked = [], []
    source, condition = flow.noise([3]).bfloat16(), flow.encode(PROMPTS[:1])
    answer = lambda state: asked.append(state.latent.dtype) or state.latent  # noqa: E731
    monkeypatch.setattr(flow, "guider", lambda *_: answer)
    monkeypatch.setattr(resample, "flow_edit", lambda *args: seen.append(args) or flow_edit(*args))
    edited = Resample({}, Course(4), 2.0, 2.0).edited(flow, source, condition, condition, [1], 4)
    assert seen[0][0].dtype == torch.float32 and torch.equal(seen[0][3], flow.solver(4).scheduler.sigmas)
    assert edited.dtype == torch.bfloat16 and set(asked) == {torch.bfloat16}


def test_flow_edit_leaves_pictures_of_other_prompts_alone(flow):
    concept = Concept("red", ("a red circle",), ("a circle",), ("a blue circle",))
    condition = flow.encode(PROMPTS)
    plain = flow.sample(condition, **CALL)
    with FlowEdit().fit(flow, concept, seed=0).attach(flow):
        edited = flow.sample(condition, **CALL)
    assert not torch.equal(edited[0], plain[0])
    assert torch.equal(edited[1], plain[1])


# rerouting


def test_averages_over_tokens_scales_and_padding():
    values, mask = row(1.0, 2.0, 3.0), row(1.0, 1.0, 0.0)
    assert rerouting.scale_means(values, (1, 2)).tolist() == [[1.0, 2.5]]
    assert rerouting.balanced_mean(values, (1, 2)) == 1.75
    assert rerouting.padded_mean(values, mask) == 1.0
    assert rerouting.masked_mean(values, mask) == 1.5
    assert rerouting.masked_mean(values) == 2.0
    assert rerouting.masked_mean(torch.stack([values, 3 * values]), mask) == 3.0
    assert rerouting.masked_mean(values, torch.zeros(1, 3)) == 0.0


def test_centres_are_taken_off_by_scale():
    states, centre = torch.tensor([[[1.0, 1.0], [2.0, 2.0], [3.0, 5.0]]]), torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    assert rerouting.centred(states, centre, (1, 2)).tolist() == [[[0.0, 1.0], [2.0, 0.0], [3.0, 3.0]]]


def test_rerouting_gives_way_to_retaining():
    assert rerouting.coefficients(75, 10.0, 300) == (7.5, 2.5)
    assert rerouting.coefficients(150, 10.0, 150) == (0.0, 10.0)


def test_equal_states_have_cosine_one_and_no_distance_nor_gradient():
    state = row(3.0, 4.0).requires_grad_()
    assert rerouting.token_cosine(state, state).item() == pytest.approx(1.0)
    assert rerouting.token_cosine(row(1.0, 0.0), row(0.0, 2.0)) == 0
    distance = rerouting.token_distance(row(3.0, 4.0), state)
    assert distance == 0
    assert torch.autograd.grad(distance.sum(), state)[0].tolist() == [[0, 0]]
