"""Settings that save memory change no result: checkpointing, precision, tiles, slices, offloading, freed encoders."""

import pytest
import torch
from torch import nn

from stages.backbones.core.base import Settings
from stages.backbones.text import encoded as prompts_module
from stages.backbones.text.cache import EmbeddingCache, fingerprint
from stages.control.edits import edit_activations, swap_parameters
from stages.interventions.embedding import embedding_tap
from stages.interventions.weights import Weights
from tests.backbones.families import FAMILIES, PROMPTS, SEEDS

CALL = {"seeds": SEEDS, "steps": 2, "guidance": 3.0}
NAMES = ["unet", "sd3", "flux-dev", "dit", "pixart", "sana", "cogvideox-5b", "wan"]


def loaded(name, folder, **settings):
    """A family's tiny backbone, saved to the folder unless it is there, and loaded with the settings."""
    family = FAMILIES[name]
    if not (folder / "model_index.json").is_file():
        family.make().save(folder)
    return family.cls.load("tiny", Settings(**{"path": str(folder), "family": "tiny"} | family.settings | settings))


@pytest.mark.parametrize("name", NAMES)
def test_checkpointing_gives_the_same_gradients_after_the_edits_are_gone(name, query):
    """The backward pass runs after the contexts close, when an ordinary checkpoint would forget the edits."""
    gradients = []
    for checkpointing in (False, True):
        backbone = FAMILIES[name].make(gradient_checkpointing=checkpointing)
        state, condition = query(backbone)
        names = backbone.weights("cross_attn", "attn", projections=("value", "out"))
        values = {n: (backbone.addresses.parameter(n) * 1.5).requires_grad_(True) for n in names}
        shift = torch.full((1,), 0.3, requires_grad=True)

        def edit(value, at, shift=shift):
            assert at.step == 1 and at.rows("cond") == slice(0, 2)
            return value + shift * torch.linspace(-1, 1, value.shape[-1])

        with swap_parameters(backbone, values), edit_activations(backbone, dict.fromkeys(backbone.sites, edit)):
            loss = backbone.predict(state, condition).square().mean()
        loss.backward()
        gradients.append([loss.detach(), shift.grad, *(value.grad for value in values.values())])
    for plain, checkpointed in zip(*gradients, strict=True):
        assert plain.abs().sum() > 0 and torch.allclose(plain, checkpointed, atol=1e-6, rtol=1e-4)


def test_checkpointing_runs_blocks_twice_and_restores_them(query):
    backbone = FAMILIES["sd3"].make(gradient_checkpointing=True)
    state, condition = query(backbone)
    before = backbone.predict(state, condition)
    runs, site = [], backbone.select("block", stream="image")[0]
    scale = torch.ones(1, requires_grad=True)
    with edit_activations(backbone, {site: lambda value, at: runs.append(at.step) or value * scale}):
        loss = backbone.predict(state, condition).square().mean()
    loss.backward()
    assert runs == [1, 1] and not backbone.net.get_submodule(backbone.addresses.tap(site).module)._forward_hooks
    assert torch.equal(backbone.predict(state, condition), before)


@pytest.mark.parametrize("options", [{"vae_slicing": True}, {"vae_tiling": True}], ids=lambda o: next(iter(o)))
@pytest.mark.parametrize("name", ["unet", "sana"])
def test_tiles_and_slices_decode_the_same_pictures(name, options):
    plain, divided = FAMILIES[name].make(full_autoencoder=True), FAMILIES[name].make(full_autoencoder=True, **options)
    assert divided.vae.use_slicing == options.get("vae_slicing", False)
    assert divided.vae.use_tiling == options.get("vae_tiling", False)
    latent = plain.noise([1, 2])
    assert torch.allclose(divided.decode(latent), plain.decode(latent), atol=1e-5)
    pictures = plain.decode(latent)
    assert torch.allclose(divided.embed(pictures), plain.embed(pictures), atol=1e-5)


def test_bfloat16_stays_close_and_every_part_has_it(tmp_path):
    plain, half = (loaded("flux-dev", tmp_path, dtype=dtype) for dtype in ("float32", "bfloat16"))
    assert {p.dtype for part in half.modules().values() for p in part.parameters()} == {torch.bfloat16}
    call = CALL | {"guidance": 1.0}
    pictures = [b.sample(b.encode(PROMPTS), **call).float() for b in (plain, half)]
    both = torch.stack([part.flatten() for part in pictures])
    assert not torch.equal(*both) and torch.corrcoef(both)[0, 1] > 0.95


@pytest.mark.parametrize("name", ["xl", "flux-dev", "sana", "dit"])
@pytest.mark.parametrize("offload", ["parts", "blocks"])
def test_offloading_moves_parts_for_their_turn_and_changes_nothing(name, offload, monkeypatch, tmp_path):
    backbone, plain = (loaded(name, tmp_path, offload=o) for o in (offload, "none"))
    moved, to = [], nn.Module.to
    kinds = {id(module): part for part, module in backbone.modules().items()}
    kinds |= {id(b): "block" for child in backbone.net.children() if isinstance(child, nn.ModuleList) for b in child}
    monkeypatch.setattr(nn.Module, "to", lambda self, *a, **k: moved.append(kinds.get(id(self))) or to(self, *a, **k))
    pictures = backbone.sample(backbone.encode(PROMPTS), **CALL)
    texts = set(backbone.texts.names)
    assert {part for part in moved if part} == texts | {"vae"} | ({"block"} if offload == "blocks" else set())
    assert len([part for part in moved if part == "vae"]) == 2
    monkeypatch.undo()
    assert torch.equal(pictures, plain.sample(plain.encode(PROMPTS), **CALL))


def test_streamed_blocks_stay_while_gradients_are_recorded(query, monkeypatch, tmp_path):
    backbone = loaded("unet", tmp_path, offload="blocks")
    state, condition = query(backbone)
    moved, to = [], nn.Module.to
    block = backbone.net.up_blocks[0]
    monkeypatch.setattr(nn.Module, "to", lambda self, *a, **k: moved.append(self is block) or to(self, *a, **k))
    with torch.no_grad():
        backbone.predict(state, condition)
    assert sum(moved) == 2
    backbone.predict(state, condition)
    assert sum(moved) == 3


# prompts


def test_text_encoders_are_freed_when_the_network_starts_and_read_again_for_new_prompts(tmp_path):
    backbone, plain = (loaded("xl", tmp_path, free_text_encoder=free) for free in (True, False))
    condition = backbone.encode(PROMPTS)
    assert set(backbone.modules()) == {"net", "text_encoder", "text_encoder_2", "vae"}
    pictures = backbone.sample(condition, **CALL)
    assert set(backbone.modules()) == {"net", "vae"}
    assert torch.equal(pictures, plain.sample(plain.encode(PROMPTS), **CALL))
    new = backbone.encode(["a cross"])
    assert set(backbone.texts.encoders()) == {"text_encoder", "text_encoder_2"}
    assert all(torch.equal(new.tensors[n], value) for n, value in plain.encode(["a cross"]).tensors.items())


def test_encoders_wait_for_the_backward_pass_through_them(tmp_path, monkeypatch):
    backbone = loaded("unet", tmp_path, offload="parts")
    vector, went = torch.zeros(8, requires_grad=True), []
    monkeypatch.setattr(backbone.texts.encoders()["text_encoder"], "to", lambda device: went.append(device))
    add = {embedding_tap(backbone, "text_encoder"): lambda value, at: value + vector}
    with edit_activations(backbone, add):
        backbone.encode(PROMPTS)
        assert len(went) == 1  # to work, and not back
        with torch.no_grad():
            backbone.encode(PROMPTS)
    assert len(went) == 3


def test_changed_weights_are_where_the_network_works(tmp_path):
    backbone = loaded("unet", tmp_path, offload="blocks")
    weights = Weights.copy(backbone, backbone.weights("cross_attn")[:1])
    backbone.home = torch.device("meta")  # what a GPU is to blocks that wait on the CPU
    with weights.attach(backbone):
        assert backbone.addresses.parameter(weights.names[0]).is_meta
    assert not backbone.addresses.parameter(weights.names[0]).is_meta


def test_a_backbone_that_was_never_saved_keeps_its_encoders():
    backbone = FAMILIES["unet"].make(free_text_encoder=True)
    backbone.sample(backbone.encode(PROMPTS), **CALL)
    assert "text_encoder" in backbone.modules()


def test_edited_text_encoders_bypass_cache_and_freeing(tmp_path):
    backbone = loaded("unet", tmp_path / "saved", free_text_encoder=True, cache=str(tmp_path / "cache"))
    plain = backbone.encode(PROMPTS)
    backbone.sample(plain, **CALL)
    files = {path: path.read_bytes() for path in (tmp_path / "cache").rglob("*.safetensors")}
    name = "text_encoder." + next(
        n for n, _ in backbone.texts.encoders()["text_encoder"].named_parameters() if "token_embedding" in n
    )
    with swap_parameters(backbone, {name: backbone.addresses.parameter(name) * 2}):
        edited = backbone.encode(PROMPTS)
        backbone.sample(edited, **CALL)
        assert "text_encoder" in backbone.modules()
        assert torch.equal(backbone.encode(PROMPTS).tensors["embeds"], edited.tensors["embeds"])
    assert not torch.allclose(edited.tensors["embeds"], plain.tensors["embeds"])
    assert torch.equal(backbone.encode(PROMPTS).tensors["embeds"], plain.tensors["embeds"])
    assert files == {path: path.read_bytes() for path in (tmp_path / "cache").rglob("*.safetensors")}


def test_embeddings_come_from_disk_without_the_encoder(tmp_path):
    settings = {"cache": str(tmp_path / "cache"), "free_text_encoder": True}
    first = loaded("pixart", tmp_path / "saved", **settings).encode(PROMPTS)
    again = loaded("pixart", tmp_path / "saved", **settings)
    again.texts.encoders()["text_encoder"].register_forward_pre_hook(lambda *_: pytest.fail("the encoder was asked"))
    read = again.encode(PROMPTS)
    assert read.tensors.keys() == {"embeds", "mask"}
    assert all(torch.equal(read.tensors[name], value) for name, value in first.tensors.items())


def test_what_a_cache_on_disk_holds_need_not_stay_at_hand(tmp_path, monkeypatch):
    backbone = loaded("unet", tmp_path / "saved", cache=str(tmp_path / "cache"))
    prompts = ["a red circle", "a blue square", "a green cross"]
    first = backbone.encode(prompts)
    monkeypatch.setattr(prompts_module, "AT_HAND", 1)
    again = backbone.encode(prompts)
    assert len(backbone.encoded.rows) == 1
    assert all(torch.equal(first.tensors[name], again.tensors[name]) for name in first.tensors)


def test_a_cache_is_of_one_set_of_encoders_and_survives_damage(tmp_path):
    first, second = (nn.Linear(4, 4) for _ in range(2))
    assert fingerprint({"text_encoder": first}) == fingerprint({"text_encoder": first})
    others = [{"text_encoder": second}, {"text_encoder_2": first}]
    assert (
        len({fingerprint({"text_encoder": first}, "512"), *map(fingerprint, [{"text_encoder": first}, *others])}) == 4
    )
    cache = EmbeddingCache(tmp_path, {"text_encoder": first})
    cache.write({"a": {"embeds": torch.ones(2)}, "": {"embeds": torch.zeros(2)}})
    assert cache.read(["a", "", "b"]).keys() == {"a", ""}
    assert not EmbeddingCache(tmp_path, {"text_encoder": second}).read(["a"])
    for path in tmp_path.rglob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:20])
    assert not cache.read(["a", ""])
