"""What an Infinity backbone is made of, and where its parts are: a folder of our own, or the released files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoTokenizer, T5EncoderModel

from Infinity import CheckpointError, Infinity, InfinityConfig, Release, Schedule, Tokenizer, load_release, schedule
from stages.backbones.core.settings import Settings
from stages.backbones.loading.checkpoints import DTYPES, check_made, explain
from stages.backbones.loading.folders import check_family, check_file, expanded, located, read_index
from stages.backbones.text.encoders import t5
from stages.seeds import Purpose, seed_of
from stages.store.files import write_json

INDEX = "model_index.json"
PARTS = ("transformer", "vae", "text_encoder", "tokenizer")
PAGE = "https://huggingface.co/FoundationVision/Infinity"
UNSUPPORTED = {
    "revision": None,
    "variant": None,
    "scheduler": None,
    "offload": "none",
    "vae_tiling": False,
    "vae_slicing": False,
    "free_text_encoder": False,
}


@dataclass(frozen=True)
class Parts:
    """The networks, the text tokenizer, and the scales that a picture has."""

    net: Infinity
    vae: Tokenizer
    text_encoder: Any  # of transformers
    tokenizer: Any
    schedule: Schedule


def check_settings(name: str, settings: Settings) -> None:
    """ValueError for a setting that this family cannot follow."""
    for key, value in UNSUPPORTED.items():
        if (got := getattr(settings, key)) != value:
            raise ValueError(f"{name}: Infinity is read from its files as they are; {key} must be {value}, got {got}")


def make(settings: Settings, tokenizer: Any, vae: Tokenizer, seed: int) -> Parts:
    """A transformer and a text encoder with random weights, as settings.build describes them."""
    build = settings.build
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(Purpose.WEIGHTS, seed))
        encoder = t5(build["text_encoder"], tokenizer)
    sizes = {"bits": vae.config.token_bits, "text_channels": encoder.config.d_model}
    config = InfinityConfig(**build["transformer"], **sizes, text_length=tokenizer.model_max_length)
    net = Infinity(config, seed=seed_of(Purpose.WEIGHTS, seed, 1))
    return Parts(net, vae, encoder, tokenizer, Schedule.of(*build["scales"]))


def save(parts: Parts, folder: Path) -> None:
    """Writes every part to its own subfolder, and at last the index."""
    folder = Path(folder)
    parts.net.save_pretrained(folder / "transformer")
    parts.vae.save_pretrained(folder / "vae")
    parts.text_encoder.save_pretrained(folder / "text_encoder")
    parts.tokenizer.save_pretrained(folder / "tokenizer")
    grids = {"grids": parts.schedule.grids, "reference": parts.schedule.reference}
    write_json(folder / INDEX, {"_class_name": "InfinityBackbone", "schedule": grids})


def load(settings: Settings, device: str) -> Parts:
    """The released files when the settings name them, else the folder at settings.path.

    FileNotFoundError or ValueError says in one line what is missing, or what lies there instead and what to do.
    """
    return _released(settings, device) if settings.release else _saved(settings, device)


def _saved(settings: Settings, device: str) -> Parts:
    settings = located(settings)
    check_made(settings)
    folder = Path(settings.path)
    if folder.is_file():
        raise ValueError(f"{folder} is one file; name it and its tokenizer's in `release` (see infinity-2b.yaml)")
    if not (folder / INDEX).is_file():
        raise FileNotFoundError(f"{folder / INDEX} is missing; for released files, fill in `release`")
    index = read_index(settings)
    check_family(settings, "InfinityBackbone", index)
    for part in PARTS:
        if not (folder / part).is_dir():
            raise ValueError(f"{folder}: cannot be loaded: the part {part} is missing")
        for file in sorted((folder / part).iterdir()):
            check_file(file)
    scales = _schedule(folder / INDEX, index)
    try:
        net = Infinity.from_pretrained(folder / "transformer", device=device)
        vae = Tokenizer.from_pretrained(folder / "vae", device=device)
    except CheckpointError as error:
        raise ValueError(f"{folder}: {error}") from error
    encoder, tokenizer = _text(settings, f"{folder}/text_encoder", f"{folder}/tokenizer")
    return Parts(net.cast_blocks(DTYPES[settings.dtype]), vae, encoder, tokenizer, scales)


def _schedule(file: Path, index: Mapping[str, Any]) -> Schedule:
    try:
        grids = index["schedule"]
        return Schedule(tuple(map(tuple, grids["grids"])), tuple(grids["reference"]))
    except (KeyError, TypeError) as error:
        raise ValueError(f"{file}: no schedule of scales in it ({error})") from None


def _released(settings: Settings, device: str) -> Parts:
    release = Release.from_dict(settings.release)
    release.check()
    release = replace(
        release,
        model_path=expanded(release.model_path),
        vae_path=expanded(release.vae_path),
        text_encoder_ckpt=expanded(release.text_encoder_ckpt),
    )
    for path in (release.model_path, release.vae_path):
        for file in sorted(Path(path).iterdir()) if Path(path).is_dir() else [Path(path)]:
            check_file(file)
        if not Path(path).exists():
            raise FileNotFoundError(
                f"{path} is missing; with a network, run: hf download FoundationVision/Infinity --include "
                f"'{Path(path).name}*' --local-dir {Path(path).parent} (licence: {PAGE})"
            )
    encoder, tokenizer = _text(settings, release.text_encoder_ckpt, release.text_encoder_ckpt)
    try:
        net, vae = load_release(release, device=device)
    except CheckpointError as error:
        raise ValueError(f"{settings.path}: {error}") from error
    height, width = settings.size or (1, 1)
    scales = schedule(release.pn, height / width)
    return Parts(net.cast_blocks(DTYPES[settings.dtype]), vae, encoder, tokenizer, scales)


def _text(settings: Settings, encoder: str, tokenizer: str) -> tuple[nn.Module, Any]:
    """T5's encoder and its tokenizer, from a folder or a repository."""
    try:
        words = AutoTokenizer.from_pretrained(tokenizer)
        return T5EncoderModel.from_pretrained(encoder, dtype=DTYPES[settings.dtype]), words
    except Exception as error:
        raise explain(error, replace(settings, path=encoder)) from error
