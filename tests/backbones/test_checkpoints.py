"""A checkpoint that cannot be loaded says which file, which licence page, which command; nothing is ever fetched."""

import os
import shutil
from types import SimpleNamespace

import pytest
import torch
from diffusers import DDIMScheduler, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
from safetensors.torch import load_file, save_file

from stages.backbones import Settings, load_backbone, load_settings
from stages.backbones.loading.checkpoints import choose_scheduler, load_network, load_pipeline
from stages.params import load_params, names
from stages.reading.unroll import Replay
from tests.backbones.families import FAMILIES

NAME = "someone/some-model"
REAL = [name for name in names("backbones") if "world" not in load_params("backbones", name)]


@pytest.fixture
def saved(tmp_path):
    FAMILIES["unet"].make().save(tmp_path)
    return tmp_path / "unet" / "diffusion_pytorch_model.safetensors"


def load(path, **settings):
    return FAMILIES["unet"].cls.load("tiny", Settings(path=str(path), family="unet", **settings))


def test_a_scheduler_is_chosen_by_name(saved):
    chosen = load(saved.parents[1], scheduler="PNDMScheduler")
    assert isinstance(chosen.scheduler, PNDMScheduler) and isinstance(load(saved.parents[1]).scheduler, DDIMScheduler)
    assert chosen.scheduler.config.beta_end == 0.012
    unsaid = PNDMScheduler(beta_end=0.02)
    assert not choose_scheduler("DDIMScheduler", unsaid, "tiny").config.clip_sample
    assert choose_scheduler("DDIMScheduler", DDIMScheduler(clip_sample=True), "tiny").config.clip_sample
    with pytest.raises(ValueError, match="no 'DDIM' in the place of DDIMScheduler.*have: .*EulerDiscreteScheduler"):
        load(saved.parents[1], scheduler="DDIM")
    with pytest.raises(ValueError, match="PNDMScheduler keeps a history of steps: set the backbone's scheduler"):
        Replay(chosen, chosen.encode(["a red circle"]), seeds=[0], steps=4, guidance=1.0)


def response(status):
    return SimpleNamespace(status_code=status, headers={}, request=None)


def failing(monkeypatch, error, said="it did not work"):
    """Has the loader of the network fail as the hub would."""

    def fail(*args, **kwargs):
        raise OSError(said) from error

    monkeypatch.setattr(UNet2DConditionModel, "from_pretrained", fail)


def test_an_offline_checkpoint_names_file_command_and_licence():
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    for call in (lambda: load(NAME), lambda: load_pipeline(StableDiffusionPipeline, Settings(NAME, "unet"), "cpu")):
        with pytest.raises(FileNotFoundError) as caught:
            call()
        said = str(caught.value)
        assert said.startswith(f"{NAME}: ") and "is not in the local cache" in said and "\n" not in said
        assert f"run: hf download {NAME} (licence: https://huggingface.co/{NAME})" in said


def test_a_gated_checkpoint_names_the_refused_file_and_the_licence(monkeypatch):
    url = f"https://huggingface.co/{NAME}/resolve/main/transformer/config.json"
    failing(monkeypatch, GatedRepoError(f"Cannot access gated repo for url {url}.\nLog in.", response=response(403)))
    with pytest.raises(FileNotFoundError) as caught:
        load(NAME)
    assert str(caught.value) == (
        f"{NAME} is gated and transformer/config.json was refused: accept its licence at "
        f"https://huggingface.co/{NAME}, then run: hf auth login && hf download {NAME}"
    )


def test_a_repository_that_does_not_exist_is_named(monkeypatch):
    failing(monkeypatch, RepositoryNotFoundError("404", response=response(404)))
    with pytest.raises(FileNotFoundError, match=f"there is no folder and no repository {NAME}: see https"):
        load(NAME)


def test_a_checkpoint_of_pickles_is_refused_with_the_way_to_convert_it(monkeypatch):
    failing(monkeypatch, None, "no file named diffusion_pytorch_model.safetensors found")
    with pytest.raises(ValueError, match=r"pickles are refused .*; write it anew with: python -c .*save_pretrained"):
        load(NAME)


def test_local_pickles_are_not_read(saved):
    torch.save(load_file(saved), saved.with_suffix(".bin"))
    saved.unlink()
    with pytest.raises(ValueError, match=r"cannot be loaded: .*no file named diffusion_pytorch_model\.safetensors"):
        load(saved.parents[1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("conv_in.bias"), r"/unet: not the weights of .*: it is without tensors conv_in\.bias$"),
        (lambda t: t.update(odd=torch.zeros(1)), r"/unet: not the weights of .*: it has unknown tensors odd$"),
        (lambda t: t.update({"conv_in.bias": torch.zeros(3)}), r"cannot be loaded: .*conv_in\.bias expected shape"),
        (lambda t: [t.pop(n) for n in list(t)[:9]], r"it is without tensors \S+, \S+, \S+ and 6 more$"),
    ],
    ids=["missing", "unknown", "misshapen", "many"],
)
def test_tensors_that_do_not_match_are_named(saved, change, message):
    tensors = load_file(saved)
    change(tensors)
    save_file(tensors, saved)
    with pytest.raises(ValueError, match=message) as caught:
        load(saved.parents[1])
    assert "\n" not in str(caught.value)


def test_a_truncated_file_is_refused(saved):
    saved.write_bytes(saved.read_bytes()[:1000])
    with pytest.raises(ValueError, match="cannot be loaded"):
        load_network(UNet2DConditionModel, "unet", Settings(str(saved.parents[1]), "unet"))


@pytest.mark.parametrize("part", ["unet", "text_encoder"])
def test_a_damaged_file_of_the_cache_is_to_be_downloaded_again(saved, tmp_path, monkeypatch, part):
    kept, commit = tmp_path / "hub" / f"models--{NAME.replace('/', '--')}", "a" * 40
    shutil.copytree(saved.parents[1], kept / "snapshots" / commit, ignore=shutil.ignore_patterns("hub"))
    (kept / "refs").mkdir()
    (kept / "refs/main").write_text(commit)
    (damaged,) = (kept / "snapshots" / commit / part).glob("*.safetensors")
    damaged.write_bytes(damaged.read_bytes()[:1000])
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(ValueError, match="damaged in the local cache .*; delete it and download it again") as caught:
        load(NAME)
    assert f"hf download {NAME} " in str(caught.value) and str(caught.value).endswith(" --force-download")
    assert "pickles" not in str(caught.value) and "\n" not in str(caught.value)
    if part == "unet":  # transformers does not say which file
        assert f"{NAME}: unet/{damaged.name} is damaged" in str(caught.value)
    with pytest.raises(ValueError, match=f" --revision {commit} --force-download$"):
        load(NAME, revision=commit)


def test_a_backbone_that_is_not_trained_yet_says_how(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"model_index\.json is missing; make it with: snakemake"):
        load(tmp_path, world="shapes")
    with pytest.raises(ValueError, match="dtype must be one of float32, float16, bfloat16, got 'int8'"):
        load(NAME, dtype="int8")


@pytest.mark.parametrize("name", REAL)
def test_every_real_checkpoint_is_described_and_says_how_to_get_it(name):
    cls, settings = load_settings(name)
    assert settings.path.count("/") == 1 and not settings.build
    if not hasattr(cls, "PIPELINE"):
        pytest.skip("not a diffusers pipeline")
    with pytest.raises(FileNotFoundError, match=f"run: hf download {settings.path}"):
        load_backbone(name, device="cpu")
