"""T2VUnlearning on a tiny CogVideoX, rotary and sin-cos: adapters, targets, losses, gradients, masks."""

from types import SimpleNamespace

import pytest
import torch
from diffusers import CogVideoXDDIMScheduler, CogVideoXTransformer3DModel

from stages.backbones.core.base import Settings, State
from stages.backbones.core.latent import Latent
from stages.control.sites import Site, Tap
from stages.interventions.adapter import Adapter, Bottleneck
from stages.methods.shared.base import frozen
from stages.methods.t2vunlearning import T2VUnlearning
from stages.objectives import negative_guidance, outside
from stages.reading.attention import attention_maps
from stages.reading.concept_masks import at_sites, averaged, binary, difference_map, mean_map, normalised
from tests.parity.fixtures import Fixtures, below, close, close_gradients
from tests.parity.stand_in import given, small_vae

FIXTURES = Fixtures("methods/t2vunlearning")
CONFIG = FIXTURES.config
VARIANTS = [
    name.removesuffix("_model.safetensors") for name in FIXTURES.files("") if name.endswith("_model.safetensors")
]
CONCEPTS = [name for name in CONFIG if name.startswith("idx")]  # each some positions of tokens


class Video(Latent):
    """CogVideoX around a network alone."""

    NET = "transformer"

    def _find_sites(self):
        blocks = range(len(self.net.transformer_blocks))
        return {Site(i, "attn"): Tap(f"transformer_blocks.{i}.attn1", item=0) for i in blocks}

    def _embed_prompts(self, prompts):
        raise AssertionError("conditions are given")

    def denoise(self, latent, time, tensors):
        rotary = {"image_rotary_emb": self.rotary} if self.rotary else {}
        return self.net(latent, tensors["embeds"], time, return_dict=False, **rotary)[0]


@pytest.fixture(params=VARIANTS)
def video(request):
    """The backbone and the stored tensors of one variant."""
    stored = {
        part: FIXTURES.tensors(f"{request.param}_{part}.safetensors") for part in ("model", "forward", "losses", "mask")
    }
    weights = below(stored["model"], "model.")
    rotary = [stored["forward"].get(f"rope_{part}") for part in ("cos", "sin")]
    net = CogVideoXTransformer3DModel(
        num_attention_heads=CONFIG["heads"],
        attention_head_dim=CONFIG["hd"],
        in_channels=weights["patch_embed.proj.weight"].shape[1],
        out_channels=weights["patch_embed.proj.weight"].shape[1],
        time_embed_dim=len(weights["time_embedding.linear_1.weight"]),
        text_embed_dim=weights["patch_embed.text_proj.weight"].shape[1],
        num_layers=CONFIG["layers"],
        sample_width=CONFIG["W"],
        sample_height=CONFIG["H"],
        sample_frames=4 * (CONFIG["F"] - 1) + 1,
        max_text_seq_length=CONFIG["nt"],
        use_rotary_positional_embeddings=rotary[0] is not None,
    )
    net.load_state_dict(weights, strict=False)
    scheduler = CogVideoXDDIMScheduler(
        prediction_type="v_prediction", rescale_betas_zero_snr=True, snr_shift_scale=CONFIG["snr"]
    )
    pipeline = SimpleNamespace(transformer=net, vae=small_vae(), scheduler=scheduler, tokenizer=None)
    backbone = Video("tiny", Settings(path="none", family="cogvideox"), pipeline)
    backbone.rotary = None if rotary[0] is None else tuple(rotary)
    return backbone, SimpleNamespace(**stored)


def state_of(stored, name="x_t"):
    return State(stored.forward[name], stored.forward["timestep"], 0)


def adapter_of(backbone, values, prefix):
    layers = {}
    for site in backbone.select("cross_attn", "attn", stream="image"):
        own = below(values, f"{prefix}.{site.block}.")
        layers[site] = Bottleneck.fresh(own["down.weight"].shape[1], own["down.weight"].shape[0])
        layers[site].load_state_dict(own)
    return Adapter(layers)


def gradients(adapter):
    return {f"{site.block}.{n}": p.grad for site, layer in adapter.items() for n, p in layer.named_parameters()}


def conditions(stored):
    return (given(stored.forward[f"emb_{name}"]) for name in ("concept", "empty", "pre"))


def test_frozen_predictions_and_the_target(video):
    backbone, stored = video
    concept, empty, pre = conditions(stored)
    for condition, name, at in ((concept, "v_concept", "x_t"), (empty, "v_empty", "x_t"), (pre, "v_pre", "x_pre")):
        close(frozen(backbone, state_of(stored, at), condition), stored.forward[name])
    target = negative_guidance(stored.forward["v_empty"], stored.forward["v_concept"], CONFIG["eta"])
    close(target, stored.losses["v_neg"])


def test_a_fresh_adapter_changes_no_bit_and_only_up_has_a_gradient(video):
    backbone, stored = video
    concept, empty, _ = conditions(stored)
    state = state_of(stored)
    adapter = adapter_of(backbone, stored.losses, "adapter_zero")
    plain = frozen(backbone, state, concept)
    with torch.no_grad(), adapter.attach(backbone):
        assert torch.equal(backbone.predict(state, concept), plain)
    method = T2VUnlearning(scale=CONFIG["eta"], localise=0.0)
    loss = method.unlearning(backbone, adapter, state, concept, empty, [])
    close(loss.detach(), stored.losses["L_unlearn_zero"])
    loss.backward()
    close_gradients(gradients(adapter), below(stored.losses, "grad_zero."), 1e-3)
    for name, value in gradients(adapter).items():
        assert bool(value.abs().max() > 0) == ("up" in name), name


def test_losses_and_gradients(video):
    backbone, stored = video
    concept, empty, pre = conditions(stored)
    state, before = state_of(stored), state_of(stored, "x_pre")
    adapter = adapter_of(backbone, stored.losses, "adapter")
    background = stored.losses["bg_mask_M"]

    def parts():
        with adapter.attach(backbone), adapter.traced() as added:
            student = backbone.predict(state, concept)
        with adapter.attach(backbone):
            kept = backbone.predict(before, pre)
        unlearn = backbone.distance(student, stored.losses["v_neg"])
        preserve = backbone.distance(kept, stored.forward["v_pre"])
        where = list(added.values()), [background] * len(added)
        return student, kept, unlearn, preserve, outside(*where), outside(*where, "sum"), added

    student, kept, unlearn, preserve, localise, summed, added = parts()
    close(student.detach(), stored.losses["v_student"])
    close(kept.detach(), stored.losses["v_student_pre"])
    for site, value in added.items():
        close(value.detach(), stored.losses[f"adapter_out.{site.block}"])
        own = outside([value], [background])
        close(own.detach(), stored.losses["L_localise_per_layer"][site.block])
    for name, value in {"unlearn": unlearn, "preserve": preserve, "localise": localise, "localise_sum": summed}.items():
        close(value.detach(), stored.losses[f"L_{name}"])
    total = unlearn + CONFIG["alpha"] * localise + CONFIG["beta"] * preserve
    close(total.detach(), stored.losses["total"])
    for name, value in {"unlearn": unlearn, "preserve": preserve, "localise": localise, "total": total}.items():
        adapter.zero_grad()
        value.backward(retain_graph=True)
        ours = {n: torch.zeros_like(p) if p is None else p for n, p in gradients(adapter).items()}
        close_gradients(ours, below(stored.losses, f"grad_{name}."), 1e-3)


def test_the_method_computes_the_same_with_its_own_mask(video):
    backbone, stored = video
    concept, empty, _ = conditions(stored)
    adapter = adapter_of(backbone, stored.losses, "adapter")
    tokens, threshold = shown_by(stored)
    method = T2VUnlearning(scale=CONFIG["eta"], localise=CONFIG["alpha"], mask="attention", threshold=threshold)
    positions = [CONFIG[tokens]] * len(concept)
    loss = method.unlearning(backbone, adapter, state_of(stored), concept, empty, positions)
    close(loss.detach(), stored.losses["L_unlearn"] + CONFIG["alpha"] * stored.losses["L_localise"])


def shown_by(stored):
    """Of which tokens and at which threshold the mask is that the losses were computed with."""
    masks = {(name, limit): stored.mask[f"{name}.mask_{limit}"] for name in CONCEPTS for limit in CONFIG["thr"]}
    background = stored.losses["bg_mask_M"]
    return next(key for key, mask in masks.items() if torch.equal(mask.flatten(1).to(background.dtype), background))


def test_clean_space_and_forward_noising(video):
    backbone, stored = video
    state = state_of(stored)
    level = backbone.scheduler.alphas_cumprod[stored.forward["timestep"]]
    close(level.double(), stored.losses["alphas_cumprod_t"])
    ours, other = (backbone.process.clean(state.latent, stored.losses[n], state.time) for n in ("v_student", "v_neg"))
    close(ours, stored.losses["x0_student"])
    close(other, stored.losses["x0_neg"])
    close((ours - other).square().flatten(1).mean(1), stored.losses["mse_x0_per_sample"])
    apart = (stored.losses["v_student"] - stored.losses["v_neg"]).square().flatten(1).mean(1)
    close(((1 - level) * apart).float(), stored.losses["mse_x0_per_sample"])
    noised = backbone.process.noised(stored.forward["x_t"], stored.losses["noise"], stored.forward["timestep"])
    close(noised, stored.losses["noised"])


@pytest.mark.parametrize("name", CONCEPTS)
def test_masks_from_joint_attention(video, name):
    backbone, stored = video
    concept, *_ = conditions(stored)
    shape = stored.forward["x_t"].shape[1:]
    _, maps = attention_maps(backbone, state_of(stored), concept, [CONFIG[name]] * len(concept), chunk=7)
    columns = stored.mask[f"{name}.columns"]
    for layer, values in enumerate(maps.values()):
        close(values.double(), columns[layer].sum(-1).mean(1))
    grid = mean_map(maps, shape)
    close(grid.double(), stored.mask[f"{name}.raw"])
    close(normalised(grid).double(), stored.mask[f"{name}.norm"], 1e-4)
    for threshold in CONFIG["thr"]:
        mask = binary(normalised(grid), threshold)
        assert torch.equal(mask.bool(), stored.mask[f"{name}.mask_{threshold}"])


@pytest.mark.parametrize("name", CONCEPTS)
def test_a_column_at_a_time(video, name):
    backbone, stored = video
    concept, *_ = conditions(stored)
    for place, token in enumerate(CONFIG[name]):
        _, maps = attention_maps(backbone, state_of(stored), concept, [[token]] * len(concept))
        for layer, values in enumerate(maps.values()):
            close(values.double(), stored.mask[f"{name}.columns"][layer][..., place].mean(1))


def test_the_fallback_and_flat_maps(video):
    _, stored = video
    apart = difference_map(stored.forward["v_concept"], stored.forward["v_empty"])
    close(apart.double(), stored.mask["diffmap_latent"])
    shape, expected_grid = stored.forward["x_t"].shape[1:], stored.mask["diffmap_norm"]
    grid = averaged(apart, expected_grid[0].numel(), shape)
    close(normalised(grid).double(), expected_grid)
    flat = binary(normalised(stored.mask["flat_raw"]), min(CONFIG["thr"]))
    assert torch.equal(flat.bool(), stored.mask["flat_mask"])
    tokens = {Site(0, "attn"): expected_grid[0].numel()}
    assert torch.equal(at_sites(grid, tokens, shape)[Site(0, "attn")], grid.flatten(1))
