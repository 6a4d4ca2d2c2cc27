"""Checkpoints as people keep them load, or one line says what lies there and what to do."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from stages.backbones import Settings
from stages.backbones.loading.checkpoints import load_alone
from stages.backbones.text.cut import cut
from stages.interventions.embedding import identity
from stages.methods.textual_inversion import TextualInversion
from stages.params.concept import Concept
from tests.backbones.families import FAMILIES
from tests.backbones.tiny_infinity import make

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 3\n"
CALL = {"seeds": [1], "steps": 2, "guidance": 2.0}


@pytest.fixture(scope="session")
def kept(tmp_path_factory):
    """Folders of small checkpoints by family, made once; copy before changing."""
    root = tmp_path_factory.mktemp("kept")
    known = {}

    def make_folder(name):
        if name not in known:
            known[name] = root / name
            (make() if name == "infinity" else FAMILIES[name].make()).save(known[name])
        return known[name]

    return make_folder


@pytest.fixture
def folder(kept, tmp_path):
    """A copy of a family's folder."""

    def copied(name="unet"):
        return Path(shutil.copytree(kept(name), tmp_path / name))

    return copied


def load(path, family="unet", **settings):
    if family == "infinity":
        return type(make()).load("tiny", Settings(path=str(path), family=family, **settings))
    chosen = FAMILIES[family].settings | settings
    return FAMILIES[family].cls.load("tiny", Settings(path=str(path), family=family, **chosen))


def picture(backbone):
    return backbone.sample(backbone.encode(["a red circle"]), **CALL)


def one_line(error):
    return "\n" not in str(error.value) and str(error.value)


def weights(path):
    (file,) = path.glob("*.safetensors")
    return file


def as_variant(path, name="fp16"):
    file = weights(path)
    file.rename(file.with_name(f"{file.stem}.{name}.safetensors"))


@pytest.mark.parametrize(
    ("held", "asked", "fits"),
    [
        ("xl", "unet", "unet.UNetXL (see params/backbones/sdxl.yaml)"),
        ("unet", "xl", "unet.UNet (see params/backbones/sd14.yaml)"),
        ("sd3", "unet", "mmdit.SD3"),
        ("unet", "dit", "unet.UNet"),
        ("flux-dev", "sd3", "mmdit.Flux"),
        ("wan", "cogvideox-2b", "wan.Wan"),
        ("infinity", "unet", "infinity.InfinityBackbone"),
        ("unet", "infinity", "unet.UNet"),
    ],
)
def test_another_familys_folder_is_named_with_the_class_that_reads_it(kept, held, asked, fits):
    with pytest.raises(ValueError, match=" holds a .*, not a ") as error:
        load(kept(held), asked)
    assert f"use class: stages.backbones.{fits}" in one_line(error)


def test_every_class_that_is_named_exists_and_reads_such_pipelines():
    from stages.backbones.loading.folders import READERS
    from stages.params import load_params, resolve_class

    for beginning, cls, name in READERS:
        path = f"stages.backbones.{cls}"
        held = getattr(resolve_class(path, "test"), "PIPELINE", type("InfinityBackbone", (), {})).__name__
        assert held.startswith(beginning) and load_params("backbones", name)["class"] == path


@pytest.mark.parametrize("part", ["vae", "unet", "scheduler", "tokenizer", "text_encoder"])
def test_a_missing_part_is_named(folder, part):
    path = folder()
    shutil.rmtree(path / part)
    with pytest.raises(ValueError, match=f"the part {part} is missing; have: ") as error:
        load(path)
    assert one_line(error)


@pytest.mark.parametrize("part", ["vae", "scheduler", "text_encoder"])
def test_a_part_that_a_family_needs_may_not_be_null(folder, part):
    path = folder("sd3")
    index = json.loads((path / "model_index.json").read_text())
    (path / "model_index.json").write_text(json.dumps(index | {part: [None, None]}))
    with pytest.raises(ValueError, match=f"has no {part}, which a StableDiffusion3Pipeline needs"):
        load(path, "sd3")


@pytest.fixture
def without_t5(folder):
    path = folder("sd3")
    index = json.loads((path / "model_index.json").read_text())
    for part in ("text_encoder_3", "tokenizer_3"):
        shutil.rmtree(path / part)
        index[part] = [None, None]
    (path / "model_index.json").write_text(json.dumps(index))
    return path


def test_sd3_without_its_t5_loads_and_draws_as_the_pipeline_does(without_t5):
    backbone = load(without_t5, "sd3")
    assert list(backbone.texts.tokenizers) == list(backbone.texts.encoders()) == ["text_encoder", "text_encoder_2"]
    pipeline = FAMILIES["sd3"].cls.PIPELINE.from_pretrained(without_t5, text_encoder_3=None, tokenizer_3=None)
    pipeline.set_progress_bar_config(disable=True)
    prompts, noise = ["a red circle", "a blue square"], backbone.noise([1, 2])
    wanted = FAMILIES["sd3"].call(pipeline, prompts, noise, 3.0)
    steps = {"seeds": [1, 2], "steps": 4, "guidance": 3.0}
    torch.testing.assert_close(backbone.sample(backbone.encode(prompts), **steps), wanted, rtol=0, atol=1e-4)
    assert cut(backbone, ["a red circle", "red " * 100])[0] == 0 < cut(backbone, ["red " * 100])[0]


def test_what_was_learned_for_the_t5_says_that_there_is_none(without_t5, made):
    whole, concept = made("sd3"), Concept("a", ("a",), ("b",), ("c",))
    word = TextualInversion(control="random", initialiser="circle").fit(whole, concept, seed=0)
    assert "text_encoder_3" in identity(whole, word.parts)
    backbone = load(without_t5, "sd3")
    with pytest.raises(ValueError, match="vectors for text_encoder_3, which tiny is without"), word.attach(backbone):
        pass


def test_plain_parts_beside_those_of_a_variant_load(folder, kept):
    wanted = picture(load(kept("unet")))
    path = folder()
    as_variant(path / "unet")
    assert torch.equal(picture(load(path, variant="fp16")), wanted)
    as_variant(path / "text_encoder")
    shutil.copy(kept("unet") / "unet" / "diffusion_pytorch_model.safetensors", path / "unet")
    (path / "unet" / "diffusion_pytorch_model.fp16.safetensors").unlink()
    assert torch.equal(picture(load(path, variant="fp16")), wanted)


@pytest.mark.parametrize("part", ["unet", "text_encoder", "vae"])
@pytest.mark.parametrize("asked", [None, "bf16"])
def test_only_files_of_another_variant_say_which(folder, part, asked):
    path = folder()
    as_variant(path / part)
    with pytest.raises(ValueError, match=f"{part}: has weights of the variant fp16 .*: set variant: fp16") as error:
        load(path, variant=asked)
    assert one_line(error)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (POINTER, "is a git-lfs pointer, not the file itself; run: git lfs pull"),
        ("<!DOCTYPE html><html>Sign in</html>", "is a web page, not the file itself"),
        ("", "is empty; download it again"),
    ],
)
@pytest.mark.parametrize("part", ["unet", "text_encoder", "vae"])
def test_what_is_not_the_file_itself_is_named(folder, part, text, message):
    path = folder()
    file = weights(path / part)
    file.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        load(path)
    assert str(file) in one_line(error)


def test_a_pointer_in_place_of_the_index_or_of_a_clip(folder, tmp_path):
    path = folder()
    (path / "model_index.json").write_text(POINTER)
    with pytest.raises(ValueError, match=r"model_index\.json is a git-lfs pointer"):
        load(path)
    with pytest.raises(ValueError, match="is a git-lfs pointer"):
        from transformers import CLIPModel

        weights(path / "text_encoder").write_text(POINTER)
        load_alone(CLIPModel, str(path / "text_encoder"))
    (path / "model_index.json").write_text("{")
    with pytest.raises(ValueError, match=r"model_index\.json: not a JSON file"):
        load(path)


@pytest.mark.parametrize("part", ["unet", "text_encoder", "vae"])
def test_a_file_that_was_cut_short_is_named(folder, part):
    path = folder()
    file = weights(path / part)
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(ValueError, match="is damaged or cut short .*; download it again") as error:
        load(path)
    assert str(file) in one_line(error)


def test_homes_variables_links_and_the_hubs_cache(kept, tmp_path, monkeypatch):
    wanted = picture(load(kept("unet")))
    monkeypatch.setenv("HOME", str(kept("unet").parent))
    monkeypatch.setenv("MODELS", str(kept("unet").parent))
    (tmp_path / "link").symlink_to(kept("unet"))
    cache = tmp_path / "hub" / "models--someone--sd"
    commit = "a" * 40
    shutil.copytree(kept("unet"), cache / "snapshots" / commit)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(commit)
    for path in ("~/unet", "$MODELS/unet", "${MODELS}/unet", tmp_path / "link", cache, cache / "snapshots" / commit):
        assert torch.equal(picture(load(path)), wanted), path
    (cache / "refs" / "main").unlink()
    load(cache)
    shutil.copytree(kept("unet"), cache / "snapshots" / ("b" * 40))
    with pytest.raises(ValueError, match=r"set path to one of its snapshots \(have: a+, b+\)"):
        load(cache)
    with pytest.raises(ValueError, match=r"the variable in it is not set: \$NOWHERE"):
        load("$NOWHERE/unet")


def test_a_cache_without_its_blobs_is_told(folder, tmp_path):
    path = folder()
    file = weights(path / "unet")
    file.unlink()
    file.symlink_to("../../blobs/abc")
    with pytest.raises(FileNotFoundError, match=r"is a link to ../../blobs/abc, which is not there; copy with cp -rL"):
        load(path)


def test_folders_that_are_no_pipeline_say_what_they_are(folder, kept, tmp_path):
    with pytest.raises(ValueError, match=r"but one part \(UNet2DConditionModel\); set path to the folder of the whole"):
        load(kept("unet") / "unet")
    with pytest.raises(ValueError, match=f"there is one in {kept('unet').parent}/"):
        load(kept("unet").parent)
    for name, message in (
        ("intervention.json", "a trained run of this project"),
        ("adapter_config.json", "a LoRA, not a checkpoint"),
        ("pytorch_lora_weights.safetensors", "a LoRA, not a checkpoint"),
        ("v1-5.safetensors", "set path to that file"),
        ("readme.md", r"cannot be loaded: holds no model_index\.json; have: readme\.md"),
    ):
        other = tmp_path / "other"
        other.mkdir()
        (other / name).write_text("")
        with pytest.raises(ValueError, match=message):
            load(other)
        shutil.rmtree(other)
    for path in (tmp_path / "nowhere", "./nowhere", "~/nowhere", "a/b/c"):
        with pytest.raises(FileNotFoundError, match="there is no such folder"):
            load(path)


@pytest.mark.parametrize("suffix", ["ckpt", "pt", "pth", "bin"])
def test_a_pickle_is_refused_unopened(tmp_path, suffix):
    class Harmful:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "ran"),))

    torch.save({"state_dict": Harmful()}, tmp_path / f"v1.{suffix}")
    with pytest.raises(ValueError, match="is a pickle, which can run code .* and is refused: get the .safetensors"):
        load(tmp_path / f"v1.{suffix}")
    assert not (tmp_path / "ran").exists()


ORIGINAL = {"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(4, 4, 3, 3)}


@pytest.mark.parametrize(
    ("tensors", "family", "message"),
    [
        (
            ORIGINAL | {"cond_stage_model.transformer.a": torch.zeros(1)},
            "unet",
            "is one file, for which diffusers needs .* python -c .*StableDiffusionPipeline.* set path: checkpoints/v1",
        ),
        (
            ORIGINAL | {"conditioner.embedders.1.model.a": torch.zeros(1)},
            "unet",
            r"holds a StableDiffusionXLPipeline, not a StableDiffusionPipeline: use class: .*UNetXL",
        ),
        ({"model.diffusion_model.joint_blocks.0.a": torch.zeros(1)}, "flux-dev", "use class: .*SD3"),
        ({"lora_unet_a.lora_up.weight": torch.zeros(1), "lora_unet_a.alpha": torch.zeros(1)}, "unet", "is a LoRA"),
        ({"emb_params": torch.zeros(1)}, "unet", "is a learned word"),
        ({"x_embedder.weight": torch.zeros(1)}, "dit", "DiTPipeline is not read from one file"),
    ],
    ids=["sd", "xl", "sd3", "lora", "word", "dit"],
)
def test_one_file_is_told_for_what_it_is(tmp_path, tensors, family, message):
    save_file(tensors, tmp_path / "v1.safetensors")
    with pytest.raises(ValueError, match=message) as error:
        load(tmp_path / "v1.safetensors", family)
    assert one_line(error)


def test_damaged_and_strange_files_are_refused(tmp_path):
    save_file(ORIGINAL, tmp_path / "v1.safetensors")
    (tmp_path / "v1.safetensors").write_bytes((tmp_path / "v1.safetensors").read_bytes()[:50])
    with pytest.raises(ValueError, match="is damaged or cut short"):
        load(tmp_path / "v1.safetensors")
    (tmp_path / "v1.safetensors").write_text(POINTER)
    with pytest.raises(ValueError, match="is a git-lfs pointer"):
        load(tmp_path / "v1.safetensors")
    (tmp_path / "v1.gguf").write_text("x")
    with pytest.raises(ValueError, match="is no checkpoint: expected a folder or a .safetensors file"):
        load(tmp_path / "v1.gguf")


def test_one_file_is_read_where_diffusers_can(kept, tmp_path, monkeypatch):
    save_file(ORIGINAL, tmp_path / "v1.safetensors")
    cls = FAMILIES["unet"].cls
    whole, asked = cls.PIPELINE.from_pretrained(kept("unet"), **cls.WITHOUT), {}

    def read(path, **options):
        asked.update(options, path=path)
        return whole

    monkeypatch.setattr(cls.PIPELINE, "from_single_file", read)
    backbone = load(tmp_path / "v1.safetensors", dtype="bfloat16")
    assert asked["path"] == str(tmp_path / "v1.safetensors") and asked["torch_dtype"] == torch.bfloat16
    assert torch.equal(picture(backbone), picture(load(kept("unet"))))


def test_infinity_folders_say_what_is_missing(folder, kept):
    load(kept("infinity"), "infinity")
    path = folder("infinity")
    weights(path / "transformer").write_text(POINTER)
    with pytest.raises(ValueError, match="is a git-lfs pointer"):
        load(path, "infinity")
    shutil.rmtree(path / "vae")
    weights(path / "transformer").unlink()
    with pytest.raises(ValueError, match="the part vae is missing"):
        load(path, "infinity")
    (path / "model_index.json").write_text('{"_class_name": "InfinityBackbone"}')
    (path / "vae").mkdir()
    with pytest.raises(ValueError, match=r"model_index\.json: no schedule of scales"):
        load(path, "infinity")


def test_infinitys_released_files_are_found_at_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "net.pth").write_text(POINTER)
    release = {"model_path": "~/net.pth", "model_type": "infinity_2b", "vae_path": "~/vae.pth", "vae_type": 32}
    release |= {"pn": "1M", "text_encoder_ckpt": "~/t5"}
    with pytest.raises(ValueError, match=f"{tmp_path}/net.pth is a git-lfs pointer"):
        load("FoundationVision/Infinity", "infinity", release=release)
    (tmp_path / "net.pth").unlink()
    with pytest.raises(FileNotFoundError, match=f"{tmp_path}/net.pth is missing; with a network, run: hf download"):
        load("FoundationVision/Infinity", "infinity", release=release)
