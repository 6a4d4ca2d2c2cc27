"""Solvers of several calls per step: every call is trained on, at its own time and scale."""

import pytest
import torch

from stages.backbones.loading.checkpoints import choose_scheduler
from stages.methods.shared.base import partial
from stages.reading.unroll import Replay
from tests.backbones.families import FAMILIES
from tests.backbones.tiny_infinity import make as make_infinity

PROMPT = ["a red circle"]
CALLS = {
    "DDIMScheduler": 4,
    "EulerDiscreteScheduler": 4,
    "PNDMScheduler": 13,
    "HeunDiscreteScheduler": 7,
    "KDPM2DiscreteScheduler": 7,
    "KDPM2AncestralDiscreteScheduler": 7,
}


@pytest.fixture(params=CALLS)
def solved(request):
    """A tiny UNet whose scheduler is the parameter's."""
    backbone = FAMILIES["unet"].make()
    backbone.scheduler = choose_scheduler(request.param, backbone.scheduler, "tiny")
    return backbone, CALLS[request.param]


def test_every_call_is_drawn_with_the_walks_own_time_and_scale(solved):
    backbone, calls = solved
    assert backbone.calls(backbone.settings.steps) == calls
    backbone.gather(PROMPT, 0)
    condition, generator = backbone.encode(PROMPT), torch.Generator().manual_seed(0)
    start, owners = backbone.begin([0])
    run = {"steps": backbone.settings.steps, "guidance": backbone.settings.guidance}
    walk = {state.step: state for state in backbone.walk(condition, start, **run, generators=owners)}
    pool, seen = backbone.trajectories.pools[PROMPT[0]], set()
    assert pool.shape[1] == calls + 1 == len(walk) and set(walk) == set(range(calls + 1))
    for _ in range(12 * calls):
        state = backbone.draw(condition, generator)
        seen.add(state.step)
        assert (float(state.time), state.scale) == (float(walk[state.step].time), walk[state.step].scale)
        assert any(torch.equal(state.latent[0], row[state.step]) for row in pool)
    assert seen == set(range(calls))


def test_a_partial_run_stops_at_any_call(solved):
    backbone, calls = solved
    condition, generator = backbone.encode(PROMPT), torch.Generator().manual_seed(0)
    steps = {partial(backbone, condition, generator, guidance=1.0).step for _ in range(12 * calls)}
    assert steps == set(range(calls))


def test_pictures_are_noised_to_times_of_the_whole_training_range(solved):
    """A time per row, unless all rows are asked for together; then the step is the nearest call."""
    backbone, calls = solved
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(200, 3, *backbone.picture_size(), generator=generator)
    times = backbone.examples(images, generator)[0].time
    assert len(times.unique()) > 120 and times.min() < 150 and times.max() > 800
    for _ in range(4):
        state, _ = backbone.examples(images[:3], generator, together=True)
        assert len(state.time.unique()) == 1
        gaps = (backbone.solver(backbone.settings.steps).times.float() - state.time[0].float()).abs()
        assert gaps[state.step] == gaps.min() and len(gaps) == calls


def test_a_solver_of_several_calls_cannot_take_one_again(solved):
    backbone, calls = solved
    call = {"seeds": [0], "steps": 4, "guidance": 1.0}
    if calls == 4:
        assert len(Replay(backbone, backbone.encode(PROMPT), **call)) == calls
        return
    with pytest.raises(ValueError, match="keeps a history of steps"):
        Replay(backbone, backbone.encode(PROMPT), **call)


def test_a_solver_whose_package_is_missing_is_refused_in_one_line(monkeypatch):
    own = FAMILIES["unet"].make().scheduler
    solver = next(cls for cls in own.compatibles if cls.__name__ == "DPMSolverSDEScheduler")

    def absent(config, **_):
        raise ImportError("\nDPMSolverSDEScheduler requires the torchsde library\n")

    monkeypatch.setattr(solver, "from_config", absent)
    with pytest.raises(ValueError, match="^tiny: scheduler: DPMSolverSDEScheduler requires the torchsde library$"):
        choose_scheduler("DPMSolverSDEScheduler", own, "tiny")


def test_infinity_calls_its_network_once_a_scale():
    backbone = make_infinity()
    scales = len(backbone.schedule)
    assert [backbone.calls(steps) for steps in (1, scales, scales + 3)] == [1, scales, scales]
