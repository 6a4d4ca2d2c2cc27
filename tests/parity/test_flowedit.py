"""FlowEdit's steps, noise and result on tiny SD3 and Flux transformers against the reference implementation."""

import functools

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel, SD3Transformer2DModel
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from stages.interventions.flowedit import Course, flow_edit
from tests.parity.fixtures import Fixtures, close

FIXTURES = Fixtures("methods/flowedit")


@functools.cache
def network(backbone):
    cls = {"sd3": SD3Transformer2DModel, "flux": FluxTransformer2DModel}[backbone]
    made = cls(**FIXTURES.manifest[f"{backbone}_config"])
    made.load_state_dict(FIXTURES.tensors(f"model_{backbone}.safetensors", "w."))
    return made.eval().requires_grad_(False)


@functools.cache
def stored():
    return FIXTURES.tensors("cases.safetensors")


class SD3:
    """Both prompts and their negatives in one batch, each at its own guidance."""

    def __init__(self, case):
        self.net, self.case = network("sd3"), case
        self.source = stored()["sd3.x_src"]
        scheduler = FlowMatchEulerDiscreteScheduler(shift=case["shift"])
        scheduler.set_timesteps(case["T_steps"])
        self.times, self.sigmas = scheduler.timesteps, scheduler.sigmas

    def _guided(self, latents, names, scales, step):
        rows = [name for which in names for name in ("neg", which)]
        embeds, pooled = (torch.cat([stored()[f"sd3.{kind}_{row}"] for row in rows]) for kind in ("emb", "pooled"))
        wide = torch.cat([latent for latent in latents for _ in range(2)])
        time = self.times[step].expand(len(wide))
        parts = self.net(wide, embeds, pooled, time, return_dict=False)[0].chunk(len(rows))
        pairs = zip(parts[::2], parts[1::2], scales, strict=True)
        return tuple(uncond + scale * (cond - uncond) for uncond, cond, scale in pairs)

    def pair(self, noised, edit, step):
        return self._guided((noised, edit), ("src", "tar"), (self.case["s"], self.case["t"]), step)

    def single(self, latent, step):
        return self._guided((latent,), ("tar",), (self.case["t"],), step)[0]

    def unpacked(self, latent):
        return latent


class Flux:
    """Guidance told to the network; latents packed two by two."""

    def __init__(self, case):
        self.net, self.case, data = network("flux"), case, stored()
        self.source = pixel_unshuffle(data["flux.x_src"], 2).flatten(2).transpose(1, 2)
        torch.testing.assert_close(self.source, data["flux.x_src_packed"])
        config = FIXTURES.manifest["flux_scheduler"]
        scheduler = FlowMatchEulerDiscreteScheduler(**config)
        slope = (config["max_shift"] - config["base_shift"]) / (
            config["max_image_seq_len"] - config["base_image_seq_len"]
        )
        mu = config["base_shift"] + slope * (self.source.shape[1] - config["base_image_seq_len"])
        steps = case["T_steps"]
        scheduler.set_timesteps(sigmas=np.linspace(1, 1 / steps, steps), mu=mu)
        self.times, self.sigmas = scheduler.timesteps, scheduler.sigmas

    def _told(self, latent, which, guidance, step):
        data = stored()
        embeds = data[f"flux.emb_{which}"]
        return self.net(
            latent,
            encoder_hidden_states=embeds,
            pooled_projections=data[f"flux.pooled_{which}"],
            timestep=self.times[step].expand(len(latent)) / 1000,
            img_ids=data["flux.img_ids"],
            txt_ids=torch.zeros(embeds.shape[1], 3),
            guidance=torch.full((len(latent),), guidance),
            return_dict=False,
        )[0]

    def pair(self, noised, edit, step):
        source = self._told(noised, "src", self.case["s"], step)
        return source, self._told(edit, "tar", self.case["t"], step)

    def single(self, latent, step):
        return self._told(latent, "tar", self.case["t"], step)

    def unpacked(self, latent):
        height, width = stored()["flux.x_src"].shape[-2:]
        return pixel_shuffle(latent.transpose(1, 2).unflatten(2, (height // 2, width // 2)), 2)


FAMILIES = {"sd3": SD3, "flux": Flux}


@pytest.mark.parametrize("case", FIXTURES.manifest["cases"], ids=lambda case: case["prefix"].rstrip("."))
def test_the_whole_course(case):
    data, prefix = stored(), case["prefix"]
    model = FAMILIES[case["backbone"]](case)
    torch.testing.assert_close(model.times, data[f"{prefix}timesteps"], rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(model.sigmas, data[f"{prefix}sigmas"], rtol=1e-5, atol=1e-6)
    generator, drawn, pairs, singles = torch.Generator().manual_seed(case["seed"]), [], [], []

    def noise():
        drawn.append(torch.randn(model.source.shape, generator=generator))
        return drawn[-1]

    def pair(noised, edit, step):
        pairs.append((step, noised, edit, *model.pair(noised, edit, step)))
        return pairs[-1][3:]

    def single(latent, step):
        singles.append(step)
        return model.single(latent, step)

    course = Course(case["n_max"], case["n_avg"], case["n_min"])
    out = flow_edit(model.source, pair, single, model.sigmas, noise, course)
    close(model.unpacked(out), data[f"{prefix}out"])
    loops = case["ode_loop_indices"]
    assert [step for step, *_ in pairs] == [step for step in loops for _ in range(case["n_avg"])]
    draws = torch.cat(drawn)
    assert singles == case["final_loop_indices"]
    close(draws[: len(pairs)], data[f"{prefix}noise"].flatten(0, data[f"{prefix}noise"].ndim - draws.ndim), 1e-6)
    for name, value in zip(("zt_src", "zt_tar", "v_src", "v_tar"), pairs[0][1:], strict=True):
        close(value, data[f"{prefix}first.{name}"])
    drifts = [torch.stack([a - b for s, *_, b, a in pairs if s == step]).mean(0) for step in loops]
    close(torch.stack(drifts).flatten(), data[f"{prefix}v_delta"].flatten(), 5e-5)
    if case["n_min"]:
        close(drawn[-1], data[f"{prefix}final_phase.noise"], 1e-6)
        assert len(drawn) == len(pairs) + 1


def test_equal_prompts_return_the_source():
    source, sigmas = torch.randn(1, 4, generator=torch.Generator().manual_seed(0)), torch.linspace(1, 0, 6)
    same = flow_edit(source, lambda a, b, s: (2 * b, 2 * b), None, sigmas, lambda: torch.ones(1, 4), Course(6, 2))
    assert torch.equal(same, source)
    linear = flow_edit(source, lambda a, b, s: (a, b), None, sigmas, lambda: torch.ones(1, 4), Course(6))
    torch.testing.assert_close(linear, source)


def test_a_course_by_hand():
    source, sigmas = torch.tensor([[1.0]]), torch.tensor([1.0, 0.5, 0.0])
    found = flow_edit(source, lambda a, b, s: (a, b + 1), None, sigmas, lambda: torch.zeros(1, 1), Course(2))
    # drift 1 at s = 1 gives z = 0.5; then z_tar - z_src = -0.5, so drift 0.5 gives z = 0.25
    torch.testing.assert_close(found, torch.tensor([[0.25]]))
