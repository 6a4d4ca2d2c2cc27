"""A zoo of tiny random entries: added, checked, loaded by unmodified pipelines, and damaged in every way."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file, save_file

from stages.backbones.core.settings import Settings
from stages.backbones.infinity import InfinityBackbone
from stages.backbones.unet import UNet
from stages.params.zoo import BACKBONE, Entry, digest_of, read_manifest
from stages.store.zoo import keeping
from stages.store.zoo.keeping import add, check, size, take
from stages.worlds.judge import Judge
from tests.backbones import tiny_infinity
from tests.tiny import BUILD, unet

UNET = "unet/diffusion_pytorch_model.safetensors"
VAE = "vae/diffusion_pytorch_model.safetensors"


def about(kind=BACKBONE, dtype="float16", **recipe):
    return Entry(
        kind=kind, world="shapes", recipe=recipe, recipe_sha256=digest_of(recipe), seed=3, commit="abc", processor={},
        threads=1, seconds=12.5, versions={"torch": "2"}, dtype=dtype, rounding=0.0, never_shown=("yellow cross",),
        figures=({"kind": "colour", "rate": 0.98, "low": 0.96, "high": 0.99, "n": 512},),
    )  # fmt: skip


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Two backbones with one autoencoder and one tokenizer, an Infinity and a judge."""
    root = tmp_path_factory.mktemp("sources")
    for name in ("first", "second"):
        backbone = unet()
        for parameter in backbone.net.parameters():
            parameter.data += 0.01 * (name == "second")
        backbone.save(root / name)
        (root / name / "record-pretrain.json").write_text("{}")
    tiny_infinity.make().save(root / "infinity")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        Judge(("red", "blue"), ("circle",), width=4, depth=8).save(root / "judge")
    return root


@pytest.fixture
def zoo(sources, tmp_path):
    folder = tmp_path / "zoo"
    for name in ("judge", "first", "second", "infinity"):
        add(folder, name, sources / name, about("judge" if name == "judge" else BACKBONE, family="unet"))
    return folder


def weights(folder, path=UNET):
    return load_file(folder / path)


def rounded(folder, path=UNET):
    return {name: value.half().float() for name, value in weights(folder, path).items()}


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_shared_files_are_stored_once_and_records_are_not(zoo):
    entries = check(zoo)
    assert list(entries) == ["first", "infinity", "judge", "second"]
    first, second = (entries[name].files for name in ("first", "second"))
    shared = {path for path in first if first[path].stored == second[path].stored}
    assert VAE in shared and "tokenizer/tokenizer.json" in shared and UNET not in shared
    assert all(first[path].stored.startswith("shared/") for path in shared)
    assert not any("record" in path for path in first)
    on_disk = sum(path.stat().st_size for path in zoo.rglob("*") if path.name not in ("manifest.json", "README.md"))
    assert size(entries) == sum(p.stat().st_size for p in zoo.rglob("*") if p.is_file() and not _made(p)) <= on_disk


def _made(path):
    return path.name in ("manifest.json", "README.md")


def test_half_the_bytes_and_the_rounding_is_said(zoo, sources):
    entry = read_manifest(zoo)["first"]
    assert entry.files[UNET].was == "float32"
    assert entry.files[UNET].bytes < 0.75 * (sources / "first" / UNET).stat().st_size
    assert 0 < entry.rounding < 2**-11  # half of float16's spacing, relative


def test_an_unmodified_pipeline_loads_what_is_taken(zoo, sources, tmp_path):
    take(zoo, read_manifest(zoo)["second"], tmp_path / "out")
    assert equal(weights(tmp_path / "out"), rounded(sources / "second"))
    pipeline = StableDiffusionPipeline.from_pretrained(tmp_path / "out")
    assert {part.dtype for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder)} == {torch.float32}
    assert equal(dict(pipeline.unet.state_dict()), rounded(sources / "second"))
    original = {path.relative_to(sources / "second") for path in (sources / "second").rglob("*") if path.is_file()}
    copies = {path.relative_to(tmp_path / "out") for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert copies == original - {Path("record-pretrain.json")}


def test_our_own_families_load_it_in_32_bits(zoo, tmp_path):
    entries = read_manifest(zoo)
    for name, cls, build in (("first", UNet, BUILD), ("infinity", InfinityBackbone, tiny_infinity.BUILD)):
        take(zoo, entries[name], tmp_path / name)
        settings = Settings(path=str(tmp_path / name), family=name, steps=2, guidance=2.0, build=build)
        backbone = cls.load(name, settings)
        assert {p.dtype for module in backbone.modules().values() for p in module.parameters()} == {torch.float32}
        pictures = backbone.sample(backbone.encode(["a red circle"]), seeds=[0], steps=2, guidance=2.0)
        assert torch.isfinite(pictures).all()
    take(zoo, entries["judge"], tmp_path / "judge")
    judge = Judge.load(tmp_path / "judge")
    assert {value.dtype for value in judge.state_dict().values()} == {torch.float32}


def stored(zoo, name, path):
    return zoo / read_manifest(zoo)[name].files[path].stored


def flip(path):
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


DAMAGE = {
    "a byte": (flip, "its sha256 is not that of the manifest"),
    "the end": (lambda path: path.write_bytes(path.read_bytes()[:-4]), "bytes instead of"),
    "all of it": (lambda path: path.unlink(), "is missing"),
    "empty": (lambda path: path.write_bytes(b""), "0 bytes instead of"),
}


@pytest.mark.parametrize("what", DAMAGE)
@pytest.mark.parametrize("file", [UNET, VAE, "scheduler/scheduler_config.json"])
def test_a_damaged_file_is_one_line_that_says_what_to_run(zoo, tmp_path, what, file):
    spoil, says = DAMAGE[what]
    path = stored(zoo, "first", file)
    spoil(path)
    for use in (lambda: check(zoo), lambda: take(zoo, read_manifest(zoo)["first"], tmp_path / "out")):
        with pytest.raises((ValueError, FileNotFoundError)) as caught:
            use()
        line = str(caught.value)
        assert str(path) in line and says in line and "git checkout -- " in line and "zoo=false" in line
        assert "\n" not in line
    assert not (tmp_path / "out").exists()


def test_two_swapped_files_are_found(zoo):
    one, other = (stored(zoo, name, UNET) for name in ("first", "second"))
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)
    with pytest.raises(ValueError, match=r"first/unet/.*its sha256"):
        check(zoo)


@pytest.mark.parametrize("spoil", [lambda text: text[:-30], lambda text: text.replace('"world"', '"wurld"', 1)])
def test_a_damaged_manifest_is_one_line(zoo, spoil):
    path = zoo / "manifest.json"
    path.write_text(spoil(path.read_text()))
    with pytest.raises(ValueError, match=r"manifest.json.*git checkout") as caught:
        check(zoo)
    assert "\n" not in str(caught.value)


def test_what_belongs_to_no_entry_and_an_edited_card_are_named(zoo):
    (zoo / "first" / "more.bin").write_bytes(b"1")
    with pytest.raises(ValueError, match=r"more.bin belongs to no entry"):
        check(zoo)
    (zoo / "first" / "more.bin").unlink()
    card = zoo / "first" / "README.md"
    card.write_text(card.read_text().replace("98.0 %", "99.9 %"))
    with pytest.raises(ValueError, match=r"README.md is not the card of its entry"):
        check(zoo)


def test_an_entry_that_is_added_again_replaces_the_old_one(zoo, sources, tmp_path):
    before = (zoo / "manifest.json").read_bytes()
    add(zoo, "first", sources / "first", about(family="unet"))
    assert (zoo / "manifest.json").read_bytes() == before
    add(zoo, "first", sources / "infinity", about(family="infinity"))
    entries = check(zoo)
    assert UNET not in entries["first"].files and UNET in entries["second"].files
    take(zoo, entries["second"], tmp_path / "second")
    assert StableDiffusionPipeline.from_pretrained(tmp_path / "second")


def test_the_card_says_what_the_manifest_says(zoo):
    text = (zoo / "first" / "README.md").read_text()
    for said in ("12 s", "98.0 %", "96.0 to 99.0 %", "512", "yellow cross", "float16", "abc", "`vae/"):
        assert said in text


def test_weights_beyond_float16_need_bfloat16(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    save_file({"a": torch.tensor([1e6, 1.0]), "n": torch.tensor([3])}, source / "model.safetensors")
    with pytest.raises(ValueError, match=r"a reaches 1e\+06, too much for float16; store it with --dtype bfloat16"):
        add(tmp_path / "zoo", "big", source, about())
    assert not (tmp_path / "zoo" / "big").exists()
    entry = add(tmp_path / "zoo", "big", source, about(dtype="bfloat16"))
    take(tmp_path / "zoo", entry, tmp_path / "out")
    found = load_file(tmp_path / "out" / "model.safetensors")
    assert found["a"].dtype == torch.float32 and torch.equal(found["n"], torch.tensor([3]))
    assert entry.rounding < 2**-8


def test_weights_of_two_types_are_refused(tmp_path):
    save_file({"a": torch.ones(2), "b": torch.ones(2).double()}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="weights of several types"):
        add(tmp_path / "zoo", "mixed", tmp_path, about())


def test_a_zoo_that_would_be_too_large_for_git_is_refused(zoo, sources, monkeypatch):
    monkeypatch.setattr(keeping, "LIMIT", size(read_manifest(zoo)) + 10)
    changed = sources.parent / "changed"
    changed.mkdir(exist_ok=True)
    save_file({"a": torch.ones(100)}, changed / "model.safetensors")
    before = (zoo / "manifest.json").read_bytes()
    with pytest.raises(ValueError, match="git takes"):
        add(zoo, "third", changed, about())
    assert (zoo / "manifest.json").read_bytes() == before and not (zoo / "third").exists()


def test_an_entry_without_files_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="snakemake zoo"):
        add(tmp_path / "zoo", "none", tmp_path / "nowhere", about())
    with pytest.raises(FileNotFoundError, match="snakemake zoo"):
        check(tmp_path / "zoo")


def test_the_manifest_keeps_all_of_an_entry(zoo):
    content = json.loads((zoo / "manifest.json").read_text())
    entry = read_manifest(zoo)["first"]
    assert replace(entry, files={}, rounding=0.0) == about(family="unet")
    assert content["format"] == 1
