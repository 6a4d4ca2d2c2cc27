"""Receler against its released code's numbers, with the adversarial prompts as intended and as released."""

import math
from dataclasses import replace

import pytest
import torch
from diffusers import DDIMScheduler

from stages.backbones.core.base import State
from stages.control.sites import Site
from stages.interventions.adapter import Adapter, Bottleneck
from stages.methods.receler import Receler
from stages.methods.shared.base import frozen
from stages.objectives import outside
from stages.reading.attention import AttentionCall, attended
from stages.reading.concept_masks import at_sites, binary, mean_map, normalised
from tests.parity.fixtures import Fixtures, below, close, close_after_adam, close_gradients
from tests.parity.stand_in import given, tiny_unet

FIXTURES = Fixtures("methods/receler")
MANIFEST = FIXTURES.manifest
SETTINGS = MANIFEST["params"]
VOTING = 16  # tokens along a side of the attentions that the rule counts


def bottleneck(values):
    layer = Bottleneck.fresh(values["down.weight"].shape[1], values["down.weight"].shape[0])
    layer.load_state_dict(values)
    return layer


def numbered(kind):
    stored = FIXTURES.tensors("units.safetensors")
    return sorted({name.split(".")[0] for name in stored if name.startswith(kind)})


@pytest.mark.parametrize("name", numbered("adapter"))
def test_adapter(name):
    stored = FIXTURES.tensors("units.safetensors", f"{name}.")
    layer = bottleneck({n: t for n, t in stored.items() if n.startswith(("down", "up"))})
    close(layer(stored["x"]).detach(), stored["y"])


@pytest.mark.parametrize("name", numbered("mask"))
def test_mask(name):
    stored = FIXTURES.tensors("units.safetensors", f"{name}.")
    positions = stored["token_positions"].tolist()
    maps, expected = {}, {}
    for index, (label, mask) in enumerate(below(stored, "mask.").items()):
        expected[Site(index, "cross_attn")] = mask
        if f"probs.{label}" in stored:
            maps[Site(index, "cross_attn")] = stored[f"probs.{label}"][..., positions].mean((1, 3))
    latent = (1, *max((mask.shape[-2:] for mask in expected.values()), key=math.prod))
    threshold = SETTINGS.get(f"{name}_threshold_in_units", SETTINGS["mask_threshold"])
    grid = binary(normalised(mean_map(maps, latent, VOTING)), threshold)
    ours = at_sites(grid, {site: value[0].numel() for site, value in expected.items()}, latent)
    for site, value in expected.items():
        assert torch.equal(ours[site].view_as(value), value.float()), site


def test_chunked_attention_equals_softmax():
    torch.manual_seed(0)
    query, key = torch.randn(2, 3, 10, 4), torch.randn(2, 3, 7, 4)
    keep = torch.tensor([[0, 1, 1, 0, 0], [0, 0, 0, 0, 1.0]])
    mask = torch.rand(2, 1, 1, 7) > 0.3
    probability = (query @ key.mT / 2).masked_fill(~mask, float("-inf")).softmax(-1)[..., 2:]
    expected = (probability * keep[:, None, None]).sum(-1).mean(1)
    for chunk in (3, 100):
        close(attended(AttentionCall(query, key, mask), keep, slice(2, None), chunk=chunk), expected)


def fresh():
    """The backbone, its adapters as stored, and their sites by attention path."""
    backbone = tiny_unet(MANIFEST["unet_config"], FIXTURES.tensors("model.safetensors", "w."), DDIMScheduler())
    order = list(MANIFEST["eraser_order"])
    sites = backbone.select("cross_attn")
    assert [backbone.addresses.tap(site).module.split(".transformer_blocks")[0] for site in sites] == order
    start = FIXTURES.tensors("model.safetensors", "eraser_init.")
    layers = {}
    for site, path in zip(sites, order, strict=True):
        own = {n.split(".adapter.")[1]: t for n, t in start.items() if n.startswith(f"{path}.") and ".adapter." in n}
        layers[site] = bottleneck(own)
    return backbone, Adapter(layers), dict(zip(sites, order, strict=True))


@pytest.mark.parametrize("variant", ["intended", "released"])
def test_training(variant):
    backbone, adapter, paths = fresh()
    inputs = FIXTURES.tensors("inputs.safetensors")
    stored = FIXTURES.tensors("train.safetensors", f"{variant}.")
    masks_of = FIXTURES.tensors("train.safetensors", "released.")
    empty, concept = given(inputs["emb_uncond"]), given(inputs["emb_concept"])
    method = Receler(
        scale=SETTINGS["negative_guidance"],
        localise=SETTINGS["reg_weight"],
        threshold=SETTINGS["mask_threshold"],
        side=VOTING,
        mask="attention",
        prompt=variant,
        slots=SETTINGS["num_adv"],
        attack_lr=SETTINGS["adv_lr"],
        attack_decay=SETTINGS["adv_weight_decay"],
    )
    words = SETTINGS["n_concept_tokens"]
    backbone.texts.tokenize = lambda prompts: [[0] * (words + 2) for _ in prompts]
    enemy = method.enemy(concept, 0)
    enemy.vectors.data.copy_(stored["it0.inner0.adv_before"].view_as(enemy.vectors))
    adam = torch.optim.Adam(adapter.parameters(), lr=SETTINGS["eraser_lr"])
    for iteration in range(SETTINGS["outer_iterations"]):
        own = below(stored, f"it{iteration}.")
        state = State(inputs["z"], own["t"], 0)
        close(frozen(backbone, state, concept), own["eps_concept_frozen"])
        close(frozen(backbone, state, empty), own["eps_uncond_frozen"])
        positions = [masks_of[f"it{iteration}.token_positions"].tolist()]
        (start,) = enemy.starts(backbone, concept)
        assert masks_of[f"it{iteration}.adv_positions"].tolist() == list(range(start, start + method.slots))

        if variant == "intended":
            adversary_steps(backbone, adapter, enemy, method, state, concept, own)
        # one step on what the last inner step was given
        last = replace(method, inner=1)
        losses = components(backbone, adapter, enemy, last, state, concept, empty, positions, masks_of, iteration, own)
        (losses["erase"] + method.localise * losses["reg"]).backward()
        gradients = below(own, "grad.")
        assert gradients
        by_path = {path: layer for (_, layer), path in zip(adapter.items(), paths.values(), strict=True)}
        ours = {n: tensor_of(by_path, n).grad for n in gradients}
        close_gradients(ours, gradients)
        adam.step()
        for name, value in below(own, "after.").items():
            close_after_adam(tensor_of(by_path, name).detach(), value, gradients[name], SETTINGS["eraser_lr"])
        adam.zero_grad()


def tensor_of(layers, name):
    """The parameter that `<attention path>...adapter.down.weight` names."""
    path = next(p for p in layers if name.startswith(f"{p}."))
    return layers[path].get_parameter(name.split("adapter.")[-1])


def adversary_steps(backbone, adapter, enemy, method, state, concept, own):
    """All but the last inner step, compared one by one."""
    for inner in range(SETTINGS["inner_iterations"]):
        step = below(own, f"inner{inner}.")
        close(enemy.vectors.detach(), step["adv_before"].view_as(enemy.vectors), 1e-4)
        used = enemy.write(concept, enemy.starts(backbone, concept))
        close(used.tensors["embeds"].detach(), step["emb_used"], 1e-4)
        with adapter.attach(backbone):
            student = backbone.predict(state, used)
        close(student.detach(), step["eps_trained"], 1e-4)
        recovery = backbone.distance(student, frozen(backbone, state, concept))
        close(recovery.detach(), step["loss_adv"], 1e-4)
        if inner + 1 < SETTINGS["inner_iterations"]:
            enemy.step(recovery, keep_graph=False)
            close(enemy.vectors.detach(), step["adv_after"].view_as(enemy.vectors), 1e-3)


def components(backbone, adapter, enemy, method, state, concept, empty, positions, masks_of, iteration, own):
    """The method's loss, checked against its stored parts, and the parts."""
    before = enemy.vectors.detach().clone()
    total = method.erasure(backbone, adapter, enemy, state, concept, empty, positions)
    close(total.detach(), own["loss_erase"] + method.localise * own["loss_reg"])
    after = enemy.vectors.detach().clone()
    enemy.vectors.data.copy_(before)
    with adapter.attach(backbone), adapter.traced() as added:
        used = enemy.write(concept, enemy.starts(backbone, concept)) if method.prompt == "intended" else concept
        student = backbone.predict(state, used)
    masks = method.masks(backbone, state, concept, empty, positions, added)
    reg = outside([added[site] for site in masks], list(masks.values()))
    erase = backbone.distance(student, own["target"])
    close(erase.detach(), own["loss_erase"])
    close(reg.detach(), own["loss_reg"])
    for site, mask in masks.items():
        path = backbone.addresses.tap(site).module.split(".transformer_blocks")[0]
        expected = masks_of.get(f"it{iteration}.mask.{path}")
        if expected is not None:
            assert torch.equal(mask.view_as(expected), expected.float()), path
        if f"eraser_out.{path}" in own:
            close(added[site].detach().view_as(own[f"eraser_out.{path}"]), own[f"eraser_out.{path}"], 1e-4)
    enemy.vectors.data.copy_(after)
    return {"erase": erase, "reg": reg}
