"""Settings for real checkpoints: what `all` runs there fits a tiny network of the same kind, and stays the paper's."""

import dataclasses
import functools
import re
from types import SimpleNamespace

import pytest
import torch
from diffusers import FluxTransformer2DModel, UNet2DConditionModel

from Infinity import Infinity, InfinityConfig, schedule
from stages.backbones import infinity, mmdit, unet
from stages.control.mentions import mentions
from stages.control.sites import select, site_table
from stages.methods import load_method
from stages.methods.shared.classes import sites_at
from stages.params import load_params, names
from stages.params.concept import Concept, load_concept
from stages.params.study import fitting
from tests import ROOT
from tests.backbones import tiny_infinity
from tests.backbones.families import FAMILIES
from tests.methods.cut_down import cut_down

REAL = [name for name in names("backbones") if not load_params("backbones", name).get("world")]
RED = Concept("red", ("a red circle", "a red square"), ("a blue circle", "a blue square"), ("a green circle",))
UNETS = {  # the structure of each class's checkpoints, and the side of their latents if the settings name no size
    "UNet": ({"cross_attention_dim": 768}, 64),
    "UNetXL": (
        {
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
        },
        128,
    ),
}


def class_of(checkpoint):
    return load_params("backbones", checkpoint)["class"].split(".")[-1]


def twin_of(checkpoint):
    """The tiny network of the checkpoint's class, of the kind that its name contains if there are several."""
    cls = class_of(checkpoint)
    if cls == "InfinityBackbone":
        return "infinity"
    kinds = [name for name, family in FAMILIES.items() if family.cls.__name__ == cls]
    assert kinds, f"no tiny network of {cls}: put one into tests/backbones/families.py"
    named = [name for name in kinds if name in checkpoint]
    return max(named, key=len) if named else kinds[0]


def side_of(checkpoint):
    """Along the latents of a U-Net's checkpoint: a number of pixels in its name or its size, an eighth."""
    pixels = re.search(r"-(\d{3,})$", checkpoint)
    size = load_params("backbones", checkpoint).get("size")
    if pixels or size:
        return (int(pixels[1]) if pixels else size[0]) // 8
    return UNETS[class_of(checkpoint)][1]


@pytest.fixture(scope="module")
def twin():
    """A tiny backbone by its name, made when first asked for."""
    known = {}

    def make(name):
        if name not in known:
            known[name] = tiny_infinity.make(batch=2) if name == "infinity" else FAMILIES[name].make(steps=2)
        return known[name]

    return make


def short(name, backbone):
    """A method's settings for a checkpoint, with what costs time cut down and layers that the tiny network has."""
    method, change = load_method(name, backbone), {"steps": 1, "batch": 1, "samples": 2}
    if getattr(method, "accumulate", 1) > 1:
        change["accumulate"] = 2
    if getattr(method, "side", None):
        change["side"] = None
    if getattr(method, "vocabulary", None):
        change["vocabulary"] = f"{ROOT}/tests/methods/vocabulary.txt"
    if getattr(method, "target_layers", None):
        change |= {"target_layers": (0, 1), "transform_layers": (0, 1)}
    if name == "conditioned_transport":
        change |= {"layers": (1, 2), "steps_on": (1, 2), "text_layers": (0,)}
    if name == "activation_transport" and "0.block.out" in method.layers:
        change["layers"] = ("0.block.out", "2.block.out")
    return cut_down(method, **change)


def fits():
    """What `all` runs on real checkpoints, each pair of a tiny network and of settings once: {id: (twin, method)}."""
    cases = {}
    for checkpoint in REAL:
        for name in fitting(checkpoint, "dog"):
            method = short(name, checkpoint)
            cases.setdefault((twin_of(checkpoint), repr(method)), (f"{name} of {checkpoint}", method))
    return {label: (twin, method) for (twin, _), (label, method) in cases.items()}


FITS = fits()


@pytest.mark.parametrize("case", FITS)
def test_what_all_runs_on_a_checkpoint_fits_a_network_like_it(twin, case):
    name, method = FITS[case]
    backbone = twin(name)
    fitted = method.fit(backbone, RED, seed=0)
    backbone.gather(RED.prompts[:1], 0)
    condition = backbone.encode(RED.prompts[:1])
    state = backbone.draw(condition, torch.Generator().manual_seed(0))
    with torch.no_grad(), fitted.attach(backbone):
        assert torch.isfinite(backbone.predict(state, condition)).all()


@pytest.mark.parametrize("checkpoint", REAL)
def test_batches_that_are_taken_in_parts_are_the_papers(checkpoint):
    for name, size in (
        ("circuit_breaker", 16),
        ("concept_ablation", 8),
        ("minimalist", 4),
        ("salun", 8),
    ):
        method = load_method(name, checkpoint)
        assert method.batch * method.accumulate == size


@pytest.mark.parametrize("checkpoint", [name for name in REAL if "receler" in fitting(name, "dog")])
def test_receler_looks_at_maps_that_there_are(checkpoint):
    side = load_method("receler", checkpoint).side
    if class_of(checkpoint) not in UNETS:
        assert side is None  # where all maps are of one size
        return
    assert side == side_of(checkpoint) // 4
    assert side**2 in tokens_of_maps(class_of(checkpoint), side_of(checkpoint))


def test_layers_are_learned_one_after_another_only_where_sampling_takes_few_steps():
    incremental = {name: load_method("activation_transport", name).incremental for name in REAL}
    slow = [name for name, how in incremental.items() if how != "no"]
    assert slow and all(load_params("backbones", name)["steps"] <= 4 for name in slow)


def test_activation_transport_finds_the_layers_that_it_lists_for_flux():
    with torch.device("meta"):
        sites = mmdit.flux_sites(FluxTransformer2DModel(), text=256)
    method = load_method("activation_transport", "flux-schnell")
    found = method.sites(SimpleNamespace(name="flux-schnell", sites=sites, addresses=SimpleNamespace(text_sites={})))
    assert len(method.layers) > 19 and list(map(str, found)) == list(method.layers)


@pytest.mark.parametrize("checkpoint", [name for name in REAL if class_of(name) == "InfinityBackbone"])
def test_layers_that_are_listed_for_infinity_are_there(checkpoint):
    backbone = bare_infinity(checkpoint)
    method, blocks = load_method("circuit_breaker_documented", checkpoint), backbone.select("block")
    listed = {*method.targets(len(blocks)), *method.transforms(len(blocks))}
    assert listed == set(range(6)) <= {site.block for site in blocks}
    assert {"circuit_breaker_documented", "conditioned_transport"} <= set(fitting(checkpoint, "dog"))
    method = load_method("conditioned_transport", checkpoint)
    depth = len(sites_at(backbone, method.location))
    assert list(method.layers) == list(range(depth // 2, depth))  # the later half
    assert method.steps_on and set(method.steps_on) <= set(range(backbone.scales))


@functools.cache
def tokens_of_maps(kind, side):
    """How many tokens ask in the cross-attention of a U-Net of that class, without memory for its weights."""
    seen, (config, _) = set(), UNETS[kind]
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


def test_what_a_paper_learns_from_is_what_its_preset_learns_from():
    """Presets of papers with more prompts than a concept's file has; T2VUnlearning without its parts is an ablation."""
    dog, own = load_concept("dog"), len(load_concept("dog").prompts)
    tables = ("casteer", "s_vare", "activation_transport", "conditioned_transport", "concept_ablation", "t2vunlearning")
    many = {name: learned(name, dog) for name in tables}
    assert len(many["casteer"].prompts) >= 50 and len(many["s_vare"].prompts) == 50
    assert len(many["activation_transport"].prompts) >= 50
    assert len(many["conditioned_transport"].prompts) >= 50
    ablation = load_method("concept_ablation", "sd14")
    anchors = [anchor for _, anchor in many["concept_ablation"].pairs()]
    assert len(set(anchors)) == 200 and len(anchors) * ablation.pictures == 1000 and ablation.augment
    assert ablation.states == "pictures" and not any(mentions(anchor, ["dog", "animal"]) for anchor in anchors)
    whole, parts = (load_method(f"t2vunlearning{name}", "cogvideox-2b") for name in ("", "_ablation"))
    assert whole.preserve == 1.0 and len(whole.templates) == 8
    texts = many["t2vunlearning"].prompts
    long = [text for text in texts if any(text.startswith(form.partition("{}")[0]) for form in whole.templates)]
    assert len(texts) == 144 and len(long) == 72 and all(mentions(text, ["dog"]) for text in texts)
    assert (parts.preserve, parts.templates, len(parts.learned(dog).prompts)) == (0.0, (), own)
    same = dataclasses.replace(parts, preserve=1.0, templates=whole.templates, data=whole.data)
    assert same == whole


def learned(name, concept):
    method = load_method(name, "sd14")
    return method.learned(concept) if hasattr(method, "learned") else concept
