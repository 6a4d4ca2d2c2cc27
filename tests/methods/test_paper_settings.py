"""Settings for real checkpoints: what `all` runs there fits a tiny network of the same kind, and stays the paper's."""

import dataclasses

import pytest
import torch

from Infinity.config import SIZES
from stages.concept import Concept
from stages.methods import load_method
from stages.params import load_params, names
from stages.study import fitting
from tests.backbones import tiny_infinity
from tests.backbones.families import FAMILIES

REAL = [name for name in names("backbones") if not load_params("backbones", name).get("world")]
TWINS = {  # a checkpoint, and the tiny network of its architecture and kind of solver
    "sd14": "unet",
    "sdxl": "xl",
    "sdxl-turbo": "xl-turbo",
    "sd3-medium": "sd3",
    "sd35-medium": "sd35",
    "flux-dev": "flux-dev",
    "flux-schnell": "flux-schnell",
    "dit-xl-256": "dit",
    "pixart-sigma": "pixart",
    "sana": "sana",
    "cogvideox-2b": "cogvideox-2b",
    "cogvideox-5b": "cogvideox-5b",
    "wan21-1.3b": "wan",
    "infinity-2b": "infinity",
}
SHORT = {
    "steps": 1,
    "batch": 1,
    "samples": 2,
    "nearest": 2,
    "inner": 1,
    "slots": 2,
    "rank": 2,
    "rounds": 1,
    "watched": 1,
    "hidden": 4,
    "seeds": 2,
    "sampler_steps": 2,
}
RED = Concept("red", ("a red circle", "a red square"), ("a blue circle", "a blue square"), ("a green circle",))
LATENTS = {"sd14": 64, "sd15": 64, "sd21": 64, "sd21-768": 96, "sdxl": 128, "sdxl-turbo": 64}  # sides of U-Nets'


@pytest.fixture(scope="module")
def twin():
    """The tiny backbone of a checkpoint, made when first asked for."""
    known = {}

    def make(name):
        if name not in known:
            family = TWINS[name]
            known[name] = tiny_infinity.make(batch=2) if family == "infinity" else FAMILIES[family].make(steps=2)
        return known[name]

    return make


def short(name, backbone):
    """A method's settings for a checkpoint, with what costs time cut down and layers that the tiny network has."""
    method = load_method(name, backbone)
    have = {field.name for field in dataclasses.fields(method)}
    change = {key: value for key, value in SHORT.items() if key in have}
    if getattr(method, "accumulate", 1) > 1:
        change["accumulate"] = 2
    if getattr(method, "side", None):
        change["side"] = None
    if getattr(method, "target_layers", None):
        change |= {"target_layers": (0, 1), "transform_layers": (0, 1)}
    if name == "conditioned_transport_paper":
        change |= {"layers": (1, 2), "steps_on": (1, 2)}
    if name == "activation_transport_paper" and "0.block.out" in method.layers:
        change["layers"] = ("0.block.out", "2.block.out")
    return dataclasses.replace(method, **change)


@pytest.mark.parametrize(
    ("checkpoint", "name"), [(checkpoint, name) for checkpoint in TWINS for name in fitting(checkpoint, "dog")]
)
def test_what_all_runs_on_a_checkpoint_fits_a_network_like_it(twin, checkpoint, name):
    backbone = twin(checkpoint)
    fitted = short(name, checkpoint).fit(backbone, RED, seed=0)
    backbone.gather(RED.prompts[:1], 0)
    condition = backbone.encode(RED.prompts[:1])
    state = backbone.draw(condition, torch.Generator().manual_seed(0))
    with torch.no_grad(), fitted.attach(backbone):
        assert torch.isfinite(backbone.predict(state, condition)).all()


@pytest.mark.parametrize("checkpoint", REAL)
def test_batches_that_are_taken_in_parts_are_the_papers(checkpoint):
    for name, size in (("circuit_breaker_paper", 16), ("concept_ablation_paper", 8), ("minimalist_paper", 4)):
        method = load_method(name, checkpoint)
        assert method.batch * method.accumulate == size


@pytest.mark.parametrize("checkpoint", [name for name in REAL if "receler_paper" in fitting(name, "dog")])
def test_receler_looks_at_maps_that_there_are(checkpoint):
    method = load_method("receler_paper", checkpoint)
    assert method.side == (LATENTS[checkpoint] // 4 if checkpoint in LATENTS else None)


@pytest.mark.parametrize("checkpoint", REAL)
def test_layers_are_learned_one_after_another_only_where_sampling_takes_few_steps(checkpoint):
    if load_params("backbones", checkpoint)["steps"] > 4:
        assert load_method("activation_transport_paper", checkpoint).incremental == "no"


@pytest.mark.parametrize("checkpoint", [name for name in REAL if name.startswith("infinity")])
def test_conditioned_transport_takes_the_later_half_of_the_layers(checkpoint):
    assert "conditioned_transport_paper" in fitting(checkpoint, "dog")
    depth = SIZES[load_params("backbones", checkpoint)["release"]["model_type"]]["depth"]
    assert list(load_method("conditioned_transport_paper", checkpoint).layers) == list(range(depth // 2, depth))
