"""Checkpoints as people keep them: wrapped, prefixed, sharded, half downloaded, or another thing altogether."""

import argparse
import json
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from Infinity import CheckpointError, Release, load_tokenizer, load_transformer, read_state
from Infinity.config import TokenizerConfig
from Infinity.names import to_published_tokenizer, to_published_transformer
from Infinity.tokenizer import Tokenizer


@pytest.fixture
def published(model) -> dict[str, torch.Tensor]:
    return to_published_transformer(model.state_dict(), model.config)


@pytest.fixture(scope="module")
def small_tokenizer() -> Tokenizer:
    return Tokenizer(TokenizerConfig(4, base=32, multipliers=(1, 2), stride=2), seed=0)


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    state = other.state_dict()
    return all(torch.equal(value, state[name]) for name, value in one.state_dict().items()) and bool(state)


def prefixed(state, prefix):
    return OrderedDict((prefix + name, value) for name, value in state.items())


def optimiser(state):
    moments = {name: {"step": torch.tensor(3.0), "exp_avg": value} for name, value in state.items()}
    return {"state": moments, "param_groups": [{"lr": 1e-4, "params": list(state)}]}


WRAPPINGS = {
    "trainer.gpt_fsdp": lambda s: {"trainer": {"gpt_fsdp": s, "gpt_fsdp_opt": optimiser(s)}, "epoch": 3},
    "trainer.gpt_wo_ddp": lambda s: {"trainer": {"config": {"lr": 1.0}, "gpt_wo_ddp": s}},
    "gpt_wo_ddp": lambda s: {"gpt_wo_ddp": s, "iter": np.int64(7)},
    "state_dict": lambda s: {"state_dict": s, "optimizer": optimiser(s)},
    "model": lambda s: {"model": s, "optimizer_states": [optimiser(s)]},
    "ddp prefix": lambda s: {"module": prefixed(s, "module.")},
    "ddp prefix, flat": lambda s: prefixed(s, "module."),
    "two models in one": lambda s: {"state_dict": {**prefixed(s, "gpt."), **prefixed({"a.b": torch.ones(3)}, "vae.")}},
    "torch.compile": lambda s: {"trainer": {"gpt_fsdp": prefixed(s, "_orig_mod.")}},
    "FSDP wrappers": lambda s: {
        "trainer": {"gpt_fsdp": {n.replace(".module.", "._fsdp_wrapped_module.module."): v for n, v in s.items()}}
    },
    "arguments beside": lambda s: {
        "trainer": {"gpt_fsdp": s},
        "args": argparse.Namespace(pn="0.06M", out=Path("runs")),
        "rng": np.arange(3, dtype=np.uint32),
    },
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_training_checkpoints_load_however_they_are_wrapped(model, published, tmp_path, wrapping):
    torch.save(WRAPPINGS[wrapping](published), tmp_path / "ar-ckpt-last.pth")
    loaded = load_transformer(tmp_path / "ar-ckpt-last.pth")
    assert loaded.config == model.config and same(model, loaded)


@pytest.mark.parametrize("key", ["vae", "state_dict", "model", "ema"])
def test_a_training_checkpoint_of_the_tokenizer_loads(small_tokenizer, published, tmp_path, key):
    state = to_published_tokenizer(small_tokenizer.state_dict())
    torch.save({"trainer": {"gpt_fsdp": published}, "vae" if key == "ema" else key: state}, tmp_path / "vae.pth")
    assert same(small_tokenizer, load_tokenizer(tmp_path / "vae.pth"))


def test_the_average_is_taken_on_request_alone(model, published, tmp_path):
    average = {name: value + 1 if "zero_k" not in name else value for name, value in published.items()}
    torch.save({"trainer": {"gpt_ema_fsdp": average, "gpt_fsdp": published}}, tmp_path / "a.pth")
    assert same(model, load_transformer(tmp_path / "a.pth"))
    assert torch.equal(load_transformer(tmp_path / "a.pth", ema=True).head.bias, model.head.bias + 1)
    save_file(published, tmp_path / "flat.safetensors")
    with pytest.raises(CheckpointError, match="no averaged"):
        load_transformer(tmp_path / "flat.safetensors", ema=True)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_file_of_half_the_precision_becomes_float32(model, published, tmp_path, inputs, text, grids, dtype):
    save_file({name: value.to(dtype) for name, value in published.items()}, tmp_path / "half.safetensors")
    loaded = load_transformer(tmp_path / "half.safetensors")
    assert {value.dtype for value in loaded.state_dict().values()} == {torch.float32}
    assert torch.equal(loaded.head.weight, model.head.weight.to(dtype).float())
    assert loaded(inputs, text, grids).isfinite().all()


def shards(state, count):
    names = sorted(state)
    return [{name: state[name].contiguous() for name in names[i::count]} for i in range(count)]


@pytest.mark.parametrize("ending", ["safetensors", "bin"])
@pytest.mark.parametrize("indexed", [True, False])
def test_shards_load_with_or_without_their_index(model, published, tmp_path, ending, indexed):
    stem = "model" if ending == "safetensors" else "pytorch_model"
    save = save_file if ending == "safetensors" else torch.save
    parts, names = shards(published, 3), [f"{stem}-{i + 1:05}-of-00003.{ending}" for i in range(3)]
    for part, name in zip(parts, names, strict=True):
        save(part, tmp_path / name)
    if indexed:
        shard_of = {key: name for part, name in zip(parts, names, strict=True) for key in part}
        (tmp_path / f"{stem}.{ending}.index.json").write_text(json.dumps({"weight_map": shard_of}))
    assert same(model, load_transformer(tmp_path))
    (tmp_path / names[1]).unlink()
    with pytest.raises(CheckpointError, match=names[1] if indexed else "2 of 3 shards and no index"):
        load_transformer(tmp_path)


def test_a_folder_of_one_file_loads_and_one_of_several_names_them(model, published, tmp_path):
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        load_transformer(tmp_path)
    torch.save(published, tmp_path / "infinity_2b_reg.pth")
    assert same(model, load_transformer(tmp_path))
    torch.save({"vae": published}, tmp_path / "infinity_vae_d32reg.pth")
    with pytest.raises(CheckpointError, match=r"several checkpoints; name one of infinity_2b_reg\.pth, infinity_vae"):
        load_transformer(tmp_path)


def test_the_ending_of_a_name_does_not_matter(model, published, tmp_path):
    save_file(published, tmp_path / "renamed.pth")
    torch.save(published, tmp_path / "renamed.safetensors")
    assert same(model, load_transformer(tmp_path / "renamed.pth"))
    assert same(model, load_transformer(tmp_path / "renamed.safetensors"))


def test_a_tilde_is_the_home_folder(model, published, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    torch.save(published, tmp_path / "model.pth")
    assert same(model, load_transformer("~/model.pth"))
    release = Release("~/m.pth", "infinity_2b", "~/v.pth", 32, "1M", "~/t5")
    assert (release.model_path, release.vae_path, release.text_encoder_ckpt) == tuple(
        str(tmp_path / name) for name in ("m.pth", "v.pth", "t5")
    )


ones = torch.ones(2)
OTHERS = {
    "a LoRA": {"base_model.model.blocks.0.sa.proj.lora_A.weight": ones},
    "a VAE of diffusers": {"encoder.conv_in.weight": ones, "encoder.down_blocks.0.resnets.0.conv1.weight": ones},
    "a VAE of Stable Diffusion": {"encoder.conv_in.weight": ones, "encoder.mid.attn_1.q.weight": ones},
    "an optimizer's state": {"state": {0: {"exp_avg": ones}}, "param_groups": []},
    "a UNet of Stable Diffusion": {"down_blocks.0.resnets.0.conv1.weight": ones, "mid_block.resnets.0.x": ones},
    "a checkpoint of Stable Diffusion in one file": {"state_dict": {"model.diffusion_model.out.2.bias": ones}},
    "a diffusion transformer": {"transformer_blocks.0.attn.to_q.weight": ones},
    "a T5 text encoder": {"encoder.block.0.layer.0.SelfAttention.q.weight": ones, "shared.weight": ones},
    "a class-conditional VAR": {"trainer": {"var_wo_ddp": {"class_emb.weight": ones, "word_embed.weight": ones}}},
}


@pytest.mark.parametrize("kind", OTHERS)
def test_another_model_is_named_in_one_line(tmp_path, kind):
    torch.save(OTHERS[kind], tmp_path / "other.pth")
    for load in (load_transformer, load_tokenizer):
        with pytest.raises(CheckpointError, match=kind) as told:
            load(tmp_path / "other.pth")
        assert "\n" not in str(told.value)


def test_transformer_and_tokenizer_are_told_apart(small_tokenizer, published, tmp_path):
    torch.save({"vae": to_published_tokenizer(small_tokenizer.state_dict())}, tmp_path / "vae.pth")
    torch.save(published, tmp_path / "model.pth")
    with pytest.raises(
        CheckpointError, match=r"vae\.pth is an Infinity tokenizer \(VAE\), not an Infinity transformer"
    ):
        load_transformer(tmp_path / "vae.pth")
    with pytest.raises(CheckpointError, match=r"model\.pth is an Infinity transformer, not an Infinity tokenizer"):
        load_tokenizer(tmp_path / "model.pth")


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 8818257920\n"
BEGINNINGS = {
    "a git-lfs pointer": POINTER,
    "a web page": b"<!DOCTYPE html><html><head>",
    "an empty file": b"",
    "a text file that begins 'Entry not found'": b"Entry not found\n",
    "a gzip archive": b"\x1f\x8b\x08\x00rest",
    "a GGUF file": b"GGUF\x03\x00\x00\x00",
}


@pytest.mark.parametrize("kind", BEGINNINGS)
@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_what_is_no_checkpoint_is_named_by_its_first_bytes(tmp_path, kind, ending):
    path = tmp_path / f"infinity_2b_reg.{ending}"
    path.write_bytes(BEGINNINGS[kind])
    with pytest.raises(CheckpointError, match=f"{path.name} is {kind}"):
        load_transformer(path)


def test_a_pointer_among_shards_or_instead_of_their_index_is_named(published, tmp_path):
    save_file(published, tmp_path / "a.safetensors")
    (tmp_path / "b.safetensors").write_bytes(POINTER)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}))
    with pytest.raises(CheckpointError, match=r"b\.safetensors is a git-lfs pointer"):
        load_transformer(tmp_path)
    index.write_bytes(POINTER)
    with pytest.raises(CheckpointError, match=r"index\.json is no index of shards; it is a git-lfs pointer"):
        load_transformer(tmp_path)


def test_half_a_download_is_told_with_its_bytes(published, tmp_path):
    whole = tmp_path / "whole.safetensors"
    save_file(published, whole)
    size = whole.stat().st_size
    (tmp_path / "half.safetensors").write_bytes(whole.read_bytes()[: size - 1000])
    with pytest.raises(CheckpointError, match=rf"cut short \({size - 1000:,} of {size:,} bytes\)"):
        load_transformer(tmp_path / "half.safetensors")
    torch.save(published, tmp_path / "whole.pth")
    (tmp_path / "half.pth").write_bytes((tmp_path / "whole.pth").read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match="damaged or cut short .*download it again"):
        load_transformer(tmp_path / "half.pth")
    (tmp_path / "model.pth.incomplete").write_bytes(b"\x80")
    with pytest.raises(CheckpointError, match=r"model\.pth\.incomplete is an unfinished download"):
        load_transformer(tmp_path / "model.pth")
    with pytest.raises(CheckpointError, match=r"model\.pth\.incomplete is an unfinished download"):
        load_transformer(tmp_path / "model.pth.incomplete")


def test_folders_of_other_things_are_named(tmp_path):
    for name, file, kind in (
        ("lora", "adapter_config.json", "a LoRA"),
        ("dcp", "__0_0.distcp", "torch's distributed format"),
        ("pipeline", "model_index.json", "a pipeline of several models"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text("{}")
        with pytest.raises(CheckpointError, match=kind):
            load_transformer(tmp_path / name)


class Arguments:
    """A class that only the training code knows."""


def test_a_pickle_that_needs_foreign_code_names_it_and_is_not_run(published, tmp_path):
    torch.save({"trainer": {"gpt_fsdp": published}, "args": Arguments()}, tmp_path / "a.pth")
    with pytest.raises(
        CheckpointError, match=r"not opened: it would run \S*Arguments; .* save its weights alone"
    ) as told:
        load_transformer(tmp_path / "a.pth")
    assert "\n" not in str(told.value)


def test_without_an_anchor_the_largest_model_is_read(published, tmp_path):
    torch.save({"a": {"x": ones}, "b": published}, tmp_path / "two.pth")
    assert set(read_state(tmp_path / "two.pth")) == set(published)
