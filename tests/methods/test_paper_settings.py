"""Settings for real checkpoints: what `all` runs there fits a tiny network of the same kind, and stays the paper's."""

import dataclasses
from types import SimpleNamespace

import pytest
import torch
from diffusers import FluxTransformer2DModel, UNet2DConditionModel

from Infinity import Infinity, InfinityConfig, schedule
from stages.backbones import infinity, mmdit, unet
from stages.control.sites import select, site_table
from stages.methods import load_method
from stages.methods.shared.classes import sites_at
from stages.params import load_params, names
from stages.params.concept import Concept
from stages.params.study import fitting
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
V2 = {"cross_attention_dim": 1024, "attention_head_dim": [5, 10, 20, 20], "use_linear_projection": True}
XL = {
    "block_out_channels": [320, 640, 1280],
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "transformer_layers_per_block": [1, 2, 10],
    "attention_head_dim": [5, 10, 20],
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
V1 = {"cross_attention_dim": 768}
UNETS = {"sd14": V1, "sd15": V1, "sd21": V2, "sd21-768": V2, "sdxl": XL, "sdxl-turbo": XL}


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
    side = load_method("receler_paper", checkpoint).side
    assert side == (LATENTS[checkpoint] // 4 if checkpoint in LATENTS else None)
    assert side is None or side**2 in tokens_of_maps(UNETS[checkpoint], LATENTS[checkpoint])


@pytest.mark.parametrize("checkpoint", REAL)
def test_layers_are_learned_one_after_another_only_where_sampling_takes_few_steps(checkpoint):
    few = load_params("backbones", checkpoint)["steps"] <= 4
    assert few == (checkpoint in ("sdxl-turbo", "flux-schnell"))
    assert load_method("activation_transport_paper", checkpoint).incremental == ("both" if few else "no")


def test_activation_transport_finds_the_layers_that_it_lists_for_flux():
    with torch.device("meta"):
        sites = mmdit.flux_sites(FluxTransformer2DModel(), text=256)
    method = load_method("activation_transport_paper", "flux-schnell")
    found = method.sites(SimpleNamespace(name="flux-schnell", sites=sites, text_sites={}))
    assert len(method.layers) > 19 and list(map(str, found)) == list(method.layers)


@pytest.mark.parametrize("checkpoint", [name for name in REAL if name.startswith("infinity")])
def test_layers_that_are_listed_for_infinity_are_there(checkpoint):
    backbone = bare_infinity(checkpoint)
    method, blocks = load_method("circuit_breaker_documented", checkpoint), backbone.select("block")
    listed = {*method.targets(len(blocks)), *method.transforms(len(blocks))}
    assert listed == set(range(6)) <= {site.block for site in blocks}
    assert {"circuit_breaker_documented", "conditioned_transport_paper"} <= set(fitting(checkpoint, "dog"))
    method = load_method("conditioned_transport_paper", checkpoint)
    depth = len(sites_at(backbone, method.location))
    assert list(method.layers) == list(range(depth // 2, depth))  # the later half
    assert method.steps_on and set(method.steps_on) <= set(range(backbone.scales))


def tokens_of_maps(config, side):
    """How many tokens ask in the cross-attention of a U-Net of that structure, without memory for its weights."""
    seen = set()
    with torch.device("meta"), torch.no_grad():
        net = UNet2DConditionModel(**config)
        sites = unet.sites(net)
        for site in select(sites, "cross_attn"):
            attention = net.get_submodule(sites[site].module)
            attention.register_forward_hook(lambda module, args, output: seen.add(output.shape[1]))
        added = {"text_embeds": torch.empty(1, 1280), "time_ids": torch.empty(1, 6)}  # read by SDXL alone
        text = torch.empty(1, 77, config["cross_attention_dim"])
        net(torch.empty(1, 4, side, side), torch.empty(1), text, added_cond_kwargs=added)
    return seen


def bare_infinity(checkpoint):
    """The sites and the number of scales of a released Infinity, without memory for its weights."""
    release = load_params("backbones", checkpoint)["release"]
    with torch.device("meta"):
        net = Infinity(InfinityConfig.named(release["model_type"], release["vae_type"]))
    sites = site_table(net, (f"blocks.{i}" for i in range(len(net.blocks))), infinity.BLOCK)
    return SimpleNamespace(
        select=lambda *kinds, **where: select(sites, *kinds, **where), scales=len(schedule(release["pn"]))
    )
