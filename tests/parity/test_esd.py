"""ESD against the released code's numbers: what it trains, where it samples, its target, gradients and updates."""

from dataclasses import replace
from itertools import islice

import pytest
import torch
from diffusers import DDIMScheduler, PNDMScheduler

from stages.interventions.weights import Weights
from stages.methods.esd import ESD
from stages.methods.shared.base import frozen
from stages.methods.shared.trained_weights import choose
from stages.objectives import away
from tests.parity.fixtures import Fixtures, below, close, close_after_adam, close_gradients
from tests.parity.stand_in import given, meta_unet, tiny_unet

FIXTURES = Fixtures("methods/esd")
MANIFEST = FIXTURES.manifest
NAMES = {"esd-x": "x", "esd-u": "u", "esd-all": "all", "esd-x-strict": "x_strict"}
CHOSEN = FIXTURES.json("param_names.json")
LINEAGE = FIXTURES.json("param_names_compvis_lineage.json")["names"]


@pytest.fixture(scope="module")
def real():
    return meta_unet(CHOSEN["sd14_structure_config"])


@pytest.mark.parametrize("name", CHOSEN["sd14"])
def test_released_selections_on_the_structure_of_stable_diffusion(name, real):
    chosen = choose(real, NAMES[name])
    assert set(chosen) == set(CHOSEN["sd14"][name]) and len(chosen) == len(set(chosen))
    sizes = [real.net.get_parameter(n).numel() for n in chosen]
    assert [len(sizes), sum(sizes)] == list(CHOSEN["sd14_counts"][name])


@pytest.mark.parametrize("name", LINEAGE)
def test_selections_of_the_papers_scripts(name, real):
    assert set(choose(real, name)) == set(LINEAGE[name])


def scheduler(kind):
    cls = {"pndm": PNDMScheduler, "ddim": DDIMScheduler}[kind]
    own = {key: value for key, value in MANIFEST[f"scheduler_{kind}"].items() if key != "eta"}
    return cls(**MANIFEST["scheduler_common"], **own)


@pytest.mark.parametrize("case", MANIFEST["cases"], ids=lambda case: f"{case['case']}-{case['train_method']}")
def test_two_steps(case):
    backbone = tiny_unet(
        MANIFEST["unet_config"], FIXTURES.tensors("model.safetensors", "w."), scheduler(case["scheduler"])
    )
    embeds = FIXTURES.tensors("embeds.safetensors")
    backbone.encoded.rows[""] = {"embeds": embeds["uncond"][0]}
    empty, concept = given(embeds["uncond"]), given(embeds["concept"])
    source = concept if case["erase_from"] is None else given(embeds[case["erase_from"].replace(" ", "_")])
    weights = Weights.copy(backbone, choose(backbone, NAMES[case["train_method"]]))
    assert set(weights.names) == set(case["selected"])
    adam = torch.optim.Adam(weights.parameters(), lr=case["lr"])
    for number, step in enumerate(case["steps"]):
        stored = FIXTURES.tensors("steps.safetensors", f"case{case['case']}.step{number}.")
        run = {"steps": case["num_inference_steps"], "guidance": case["start_guidance"]}
        with torch.no_grad():
            walk = backbone.walk(source, stored["init_latents"], **run)
            state = next(islice(walk, step["python_random_index_k"], None))
        assert int(state.time[0]) == step["timestep"]
        close(state.latent, stored["x_t"])
        state = replace(state, latent=stored["x_t"])
        cond, uncond = (frozen(backbone, state, c) for c in (concept, empty))
        close(cond, stored["eps_cond"])
        close(away(frozen(backbone, state, source), uncond, cond, case["eta"]), stored["target"])
        method = ESD(scale=case["eta"], origin="source")
        loss = method.erasure(backbone, weights, state, concept, empty, source)
        close(loss.detach(), stored["loss"])
        assert float(loss.detach()) == pytest.approx(step["loss"], rel=1e-4)
        loss.backward()
        gradients = below(stored, "grad.")
        ours = {name: value.grad for name, value in weights.items() if name in gradients}
        if gradients:
            close_gradients(ours, gradients)
        adam.step()
        for name, value in weights.items():
            if f"after.{name}" in stored and name in gradients:
                close_after_adam(value.detach(), stored[f"after.{name}"], gradients[name], case["lr"])
        adam.zero_grad()
