"""A run as steps that can be taken again, and gradients through all of them with the memory of one."""

import pytest
import torch

from stages.reading.unroll import Replay, unroll

NAMES = ("xl", "sd35", "flux-schnell", "dit", "pixart-ddim", "sana-euler", "cogvideox-2b")


def test_a_run_of_steps_is_the_samplers_own(made, query):
    for name in (*NAMES, "xl-turbo"):  # the last one's solver adds noise
        backbone = made(name)
        _, condition = query(backbone)
        latent, owners = backbone.begin([3, 7])
        states = list(backbone.walk(condition, latent, steps=3, guidance=2.0, generators=owners))
        run, latent = Replay(backbone, condition, seeds=[3, 7], steps=3, guidance=2.0), states[0].latent
        for index in range(3):
            latent = run(index, latent)
        assert torch.equal(latent, states[-1].latent), name


def test_the_noise_of_a_step_is_not_known_before_the_one_ahead_of_it(made):
    backbone = made("xl-turbo")
    run = Replay(backbone, backbone.encode(["a red circle"]), seeds=[0], steps=3, guidance=1.0)
    with pytest.raises(ValueError, match="has to follow step 1"):
        run(2, backbone.noise([0]))


def test_a_family_whose_sampler_keeps_a_history_is_refused(made):
    with pytest.raises(ValueError, match="history of steps"):
        Replay(made("pixart"), made("pixart").encode(["a red circle"]), seeds=[0], steps=2, guidance=1.0)


def test_gradients_equal_those_of_the_whole_graph():
    matrix, unused = (torch.nn.Parameter(torch.randn(3, 3, generator=torch.manual_seed(i))) for i in range(2))
    start = torch.randn(2, 3, generator=torch.manual_seed(2)).requires_grad_()

    def step(index, latent):
        return torch.tanh(latent @ matrix) * (index + 1)

    whole = start
    for index in range(4):
        whole = step(index, whole)
    final = unroll(step, 4, start, [matrix, unused])
    assert torch.equal(final, whole)
    own, theirs = (torch.autograd.grad(end.square().sum(), [start, matrix]) for end in (final, whole))
    for a, b in zip(own, theirs, strict=True):
        torch.testing.assert_close(a, b)


def test_other_steps_may_be_taken_in_the_backward_pass():
    factor = torch.nn.Parameter(torch.tensor(2.0))
    final = unroll(lambda _, z: factor * z, 2, torch.tensor(1.0), [factor], lambda _, z: 3 * factor * z)
    assert final == 4
    final.backward()
    assert factor.grad == 24  # 3 x 2 of the last step, and 3 x 1 times its slope 6 of the first
