import argparse
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from Infinity import CheckpointError, Infinity, Release, Tokenizer, load_release, load_tokenizer, load_transformer
from Infinity.config import SIZES, TokenizerConfig
from Infinity.names import to_published_tokenizer, to_published_transformer
from Infinity.pipeline import Pipeline
from Infinity.releases import check_pair


@pytest.fixture
def published(model) -> dict[str, torch.Tensor]:
    return to_published_transformer(model.state_dict(), model.config)


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    state = other.state_dict()
    return all(torch.equal(value, state[name]) for name, value in one.state_dict().items()) and bool(state)


def test_published_names_hold_chunks_and_zero_key_biases(published):
    assert "block_chunks.1.module.1.sa.mat_qkv.weight" in published
    assert not published["block_chunks.0.module.1.ca.zero_k_bias"].any()
    assert "text_proj_for_sos.ca.zero_k_bias" in published


def test_save_and_load_give_the_same_output(model, inputs, text, grids, tmp_path):
    model.save_pretrained(tmp_path / "one")
    loaded = Infinity.from_pretrained(tmp_path / "one")
    assert loaded.config == model.config and same(model, loaded)
    assert torch.equal(loaded(inputs, text, grids), model(inputs, text, grids))
    assert all(parameter.requires_grad for parameter in loaded.parameters())


def test_a_folder_that_is_written_anew_does_not_load_until_it_is_whole(model, tmp_path, monkeypatch):
    model.save_pretrained(tmp_path)

    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("huggingface_hub.save_torch_state_dict", stop)
        model.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"holds no config\.json"):
        Infinity.from_pretrained(tmp_path)
    model.save_pretrained(tmp_path)
    assert same(model, Infinity.from_pretrained(tmp_path))


def test_a_sharded_folder_loads_and_a_missing_shard_is_named(model, tmp_path):
    model.save_pretrained(tmp_path, max_shard_size="40KB")
    shards = sorted(tmp_path.glob("*.safetensors"))
    assert len(shards) > 2 and same(model, Infinity.from_pretrained(tmp_path))
    shards[1].unlink()
    with pytest.raises(CheckpointError, match=shards[1].name):
        Infinity.from_pretrained(tmp_path)


def test_a_tokenizer_round_trips_in_both_formats(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path / "folder")
    assert same(tokenizer, Tokenizer.from_pretrained(tmp_path / "folder"))
    state = to_published_tokenizer(tokenizer.state_dict())
    assert "encoder.down.0.downsample.conv.conv.weight" in state and "decoder.norm_out.norm.bias" in state
    torch.save({"vae": {**state, "quantizer.lfq.mask": torch.ones(6)}, "step": 3}, tmp_path / "vae.pth")
    with pytest.raises(CheckpointError, match="vae_type is 16"):
        load_tokenizer(tmp_path / "vae.pth", vae_type=16)


def test_published_tokenizer_files_load_wrapped_and_unwrapped(tmp_path):
    tokenizer = Tokenizer(TokenizerConfig(4, base=32, multipliers=(1, 2), stride=2), seed=0)
    torch.save({"vae": to_published_tokenizer(tokenizer.state_dict())}, tmp_path / "wrapped.pth")
    torch.save({"vae": tokenizer.state_dict()}, tmp_path / "plain.pth")
    for name in ("wrapped", "plain"):
        loaded = load_tokenizer(tmp_path / f"{name}.pth")
        assert loaded.config == tokenizer.config and same(tokenizer, loaded)


def test_flat_and_training_files_load_and_the_average_on_request(model, published, tmp_path):
    torch.save(published, tmp_path / "flat.pth")
    average = {name: value + 1 if "zero_k" not in name else value for name, value in published.items()}
    training = {
        "trainer": {"gpt_fsdp": published, "gpt_ema_fsdp": average, "lr": np.float64(1e-4)},
        "args": argparse.Namespace(depth=4),
        "iter": np.int64(7),
    }
    torch.save(training, tmp_path / "training.pth")
    for name in ("flat", "training"):
        loaded = load_transformer(tmp_path / f"{name}.pth")
        assert loaded.config == model.config and same(model, loaded)
    averaged = load_transformer(tmp_path / "training.pth", ema=True)
    assert torch.equal(averaged.head.weight, model.head.weight + 1)
    with pytest.raises(CheckpointError, match="no averaged"):
        load_transformer(tmp_path / "flat.pth", ema=True)


def test_old_tables_and_the_other_kernels_scale_shape_are_accepted(model, published, tmp_path):
    odd = {**published, "lvl_1L": torch.zeros(1, 4), "attn_bias_for_masking": torch.zeros(1, 1, 4, 4)}
    for name in odd:
        if name.endswith("scale_mul_1H11"):
            odd[name] = odd[name].reshape(1, 1, -1, 1)
    save_file({name: value.contiguous() for name, value in odd.items()}, tmp_path / "odd.safetensors")
    assert same(model, load_transformer(tmp_path / "odd.safetensors"))


def test_a_pickle_that_runs_code_and_a_truncated_file_are_refused(published, tmp_path):
    class Harmful:
        def __reduce__(self):
            return (print, ("ran",))

    (tmp_path / "harmful.pth").write_bytes(pickle.dumps({"vae": Harmful()}, protocol=2))
    torch.save({"a": Harmful()}, tmp_path / "zip.pth")
    for name in ("harmful", "zip"):
        with pytest.raises(CheckpointError, match="more than tensors"):
            load_transformer(tmp_path / f"{name}.pth")
    torch.save(published, tmp_path / "whole.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "whole.pth").read_bytes()[:5000])
    with pytest.raises(CheckpointError, match="damaged or cut short"):
        load_transformer(tmp_path / "cut.pth")
    save_file({"a": torch.zeros(100)}, tmp_path / "whole.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "whole.safetensors").read_bytes()[:200])
    with pytest.raises(CheckpointError, match="damaged or cut short"):
        load_transformer(tmp_path / "cut.safetensors")


def test_missing_and_misshapen_tensors_are_named(published, tmp_path):
    partial = {name: value for name, value in published.items() if name != "head.weight"}
    partial["pos_start"] = torch.zeros(1, 1, 5)
    torch.save(partial, tmp_path / "partial.pth")
    with pytest.raises(CheckpointError, match=r"1 missing: head\.weight; 1 of another shape: pos_start \(1, 1, 5\)"):
        load_transformer(tmp_path / "partial.pth")
    torch.save({"weights": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="not the tensors of an Infinity transformer"):
        load_transformer(tmp_path / "other.pth")


RELEASE = Release("w/infinity_2b_reg.pth", "infinity_2b", "w/infinity_vae_d32reg.pth", 32, "1M")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"vae_path": "w/infinity_vae_d32.pth"},
            r"trained with infinity_vae_d32reg\.pth; vae_path names infinity_vae_d32\.pth",
        ),
        ({"pn": "0.06M"}, "infinity_2b_reg.pth needs pn 1M, got 0.06M"),
        ({"pn": "2M"}, "pn must be one of"),
        ({"model_type": "infinity_8b"}, "needs model_type infinity_2b"),
        ({"vae_type": 16}, "needs vae_type 32"),
        ({"vae_type": 15}, "vae_type must be one of"),
    ],
)
def test_contradicting_release_fields_are_refused_before_any_file_is_read(change, message):
    with pytest.raises(CheckpointError, match=message):
        replace(RELEASE, **change).check()
    RELEASE.check()


def test_a_pair_that_does_not_fit_names_the_file_that_does(config):
    with pytest.raises(CheckpointError, match=r"reads 32 bits .* writes 16; infinity_vae_d32reg\.pth belongs to it"):
        check_pair(replace(config, bits=32), TokenizerConfig.released(16))
    check_pair(replace(config, bits=56), TokenizerConfig.released(14))


def test_release_fields_from_a_file_are_checked():
    values = {field: getattr(RELEASE, field) for field in ("model_path", "model_type", "vae_path", "vae_type", "pn")}
    assert Release.from_dict(values) == RELEASE
    with pytest.raises(ValueError, match="did you mean vae_path"):
        Release.from_dict({**values, "vae_pat": "x"})
    with pytest.raises(ValueError, match="needs pn"):
        Release.from_dict({name: value for name, value in values.items() if name != "pn"})


def test_a_release_loads_checks_its_type_and_draws(model, config, published, tmp_path, monkeypatch):
    tokenizer = Tokenizer(TokenizerConfig(24, base=32, multipliers=(1, 1, 1, 1, 1)), seed=0)
    fitting = Infinity(replace(config, bits=24, text_length=512), seed=0)
    torch.save(to_published_transformer(fitting.state_dict(), fitting.config), tmp_path / "model.pth")
    torch.save({"vae": to_published_tokenizer(tokenizer.state_dict())}, tmp_path / "vae.pth")
    release = Release(
        str(tmp_path / "model.pth"), "infinity_tiny", str(tmp_path / "vae.pth"), 24, "0.06M", "none", text_channels=24
    )
    monkeypatch.setitem(SIZES, "infinity_tiny", {"depth": 4, "width": 32, "heads": 4, "hidden": 64})
    pipeline = Pipeline.from_release(release)
    from Infinity import Text, schedule

    text = Text.of([torch.randn(3, 24, generator=torch.Generator().manual_seed(0))])
    images = pipeline.draw(text, schedule("0.06M", 2.0).prefix(4), seeds=[1])
    assert images.shape == (1, 3, 96, 48) and images.min() >= 0 and images.max() <= 1
    with pytest.raises(
        CheckpointError, match=r"is not an infinity_2b: it has depth 4.*; the published file is infinity_2b_reg\.pth"
    ):
        load_release(replace(release, model_type="infinity_2b"))
    with pytest.raises(CheckpointError, match="text_channels is 2048"):
        load_release(replace(release, text_channels=2048))
