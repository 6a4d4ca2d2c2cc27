"""Checkpoints as people keep them: what lies at a path, whether it is whole, and which family reads it."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from huggingface_hub import try_to_load_from_cache
from safetensors import SafetensorError, safe_open

from stages.backbones.core.settings import Settings

INDEX = "model_index.json"
REPOSITORY = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")  # owner/name
READERS = (  # how pipelines' class names begin, the class that reads them and a file of params/backbones, longest first
    ("StableDiffusionXL", "unet.UNetXL", "sdxl"),
    ("StableDiffusion3", "mmdit.SD3", "sd3-medium"),
    ("StableDiffusion", "unet.UNet", "sd14"),
    ("Flux", "mmdit.Flux", "flux-dev"),
    ("PixArtSigma", "cross_dit.PixArt", "pixart-sigma"),
    ("Sana", "cross_dit.Sana", "sana"),
    ("DiT", "dit.DiT", "dit-xl-256"),
    ("CogVideoX", "cogvideox.CogVideoX", "cogvideox-2b"),
    ("Wan", "wan.Wan", "wan21-1.3b"),
    ("Infinity", "infinity.InfinityBackbone", "infinity-2b"),
)
BEGINNINGS = {  # how files begin that are not what their names say
    b"version https://git-lfs": "a git-lfs pointer, not the file itself; run: git lfs pull",
    b"<!doctype html": "a web page, not the file itself; download it again",
    b"<html": "a web page, not the file itself; download it again",
}
WEIGHTS, PICKLES = (".safetensors",), (".bin", ".ckpt", ".pt", ".pth", ".pkl")
NEEDLESS = ("tokenizer", "scheduler", "feature_extractor", "image_processor")  # parts without weights

log = logging.getLogger(__name__)


def located(settings: Settings) -> Settings:
    """The settings with `~` and variables of the environment in their path replaced, a folder of the hub's cache by
    the snapshot in it. ValueError for a variable that is not set, and for several snapshots without a main one.
    """
    path = expanded(settings.path)
    return replace(settings, path=str(_snapshot(Path(path)) or path))


def expanded(path: str) -> str:
    """The path with `~` and variables such as $HOME replaced; ValueError for one that is not set."""
    whole = os.path.expanduser(os.path.expandvars(path))
    if "$" in whole:
        raise ValueError(f"{path}: the variable in it is not set: {whole[whole.index('$') :].split('/')[0]}")
    return whole


def _snapshot(folder: Path) -> Path | None:
    """The snapshot in a folder such as models--owner--name of the hub's cache."""
    snapshots = folder / "snapshots"
    if (folder / INDEX).exists() or not snapshots.is_dir():
        return None
    commits = sorted(path for path in snapshots.iterdir() if path.is_dir())
    main = folder / "refs" / "main"
    named = snapshots / main.read_text().strip() if main.is_file() else None
    chosen = named if named in commits else commits[0] if len(commits) == 1 else None
    if chosen is None:
        names = ", ".join(path.name for path in commits) or "none"
        raise ValueError(f"{folder}: a folder of the hub's cache; set path to one of its snapshots (have: {names})")
    return chosen


def read_index(settings: Settings) -> dict[str, Any]:
    """The content of model_index.json, from the folder or the hub's cache; {} if it is in neither.

    ValueError if it cannot be read.
    """
    file: Any = Path(settings.path) / INDEX
    if not Path(settings.path).exists() and REPOSITORY.fullmatch(settings.path):
        file = try_to_load_from_cache(settings.path, INDEX, revision=settings.revision)
    if not isinstance(file, str | Path) or not Path(file).is_file():
        return {}
    check_file(Path(file))
    try:
        content = json.loads(Path(file).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file}: not a JSON file: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{file}: expected an object, got {type(content).__name__}")
    return content


def check_family(settings: Settings, pipeline: str, index: Mapping[str, Any]) -> None:
    """ValueError for a pipeline of another family than that of the pipeline class named; it says which class fits."""
    held = str(index.get("_class_name") or "")
    if (reader := _reader(held)) and reader != _reader(pipeline):
        raise ValueError(
            f"{settings.path} holds a {held}, not a {pipeline}: use class: stages.backbones.{reader[1]} "
            f"(see params/backbones/{reader[2]}.yaml)"
        )


def _reader(pipeline: str) -> tuple[str, str, str] | None:
    return next((reader for reader in READERS if pipeline.startswith(reader[0])), None)


def check_folder(settings: Settings, index: Mapping[str, Any], unread: Collection[str]) -> None:
    """ValueError or FileNotFoundError for a local folder that is no whole pipeline; `unread` parts may be missing."""
    folder = Path(settings.path)
    if not folder.exists():
        if not REPOSITORY.fullmatch(settings.path):
            raise FileNotFoundError(f"{settings.path}: there is no such folder")
        return
    if not index:
        raise ValueError(f"{folder}: {_other(folder)}")
    for part, names in index.items():
        if part in unread or not isinstance(names, list) or not names or names[0] is None:
            continue
        if not (folder / part).is_dir():
            have = ", ".join(sorted(path.name for path in folder.iterdir() if path.is_dir()))
            raise ValueError(f"{folder}: cannot be loaded: the part {part} is missing; have: {have}; download it, too")
        for file in sorted((folder / part).iterdir()):
            check_file(file)
        if not part.startswith(NEEDLESS):
            _check_weights(folder / part, settings.variant)


def check_file(file: Path) -> None:
    """FileNotFoundError for a link to nothing; ValueError for an empty file, a git-lfs pointer and a web page."""
    if file.is_symlink() and not file.exists():
        raise FileNotFoundError(f"{file} is a link to {os.readlink(file)}, which is not there; copy with cp -rL")
    if not file.is_file():
        return
    with file.open("rb") as stream:
        beginning = stream.read(64).lstrip().lower()
    for start, what in BEGINNINGS.items():
        if beginning.startswith(start):
            raise ValueError(f"{file} is {what}")
    if not beginning and file.suffix in (*WEIGHTS, ".json"):
        raise ValueError(f"{file} is empty; download it again")
    if file.suffix in WEIGHTS:
        try:
            with safe_open(file, "pt"):
                return
        except SafetensorError as error:
            raise ValueError(f"{file} is damaged or cut short ({error}); download it again") from None


def variant_of(settings: Settings, part: str) -> str | None:
    """The variant whose files a part is read from: the settings', or none if a local folder has plain ones alone."""
    if settings.variant and (folder := Path(settings.path) / part).is_dir():
        variants = set(_variants(folder))
        if settings.variant not in variants and None in variants:
            log.info("%s: no files of the variant %s; the plain ones are read", folder, settings.variant)
            return None
    return settings.variant


def _check_weights(folder: Path, variant: str | None) -> None:
    variants = set(_variants(folder))
    if {variant, None} & variants:
        return
    if variants:
        have = ", ".join(sorted(map(str, variants)))
        asked = "there are no plain ones" if variant is None else f"there are none of {variant}"
        raise ValueError(f"{folder}: has weights of the variant {have} and {asked}: set variant: {have}")
    pickles = sorted(file.name for file in folder.iterdir() if file.suffix in PICKLES)
    if pickles:
        raise ValueError(
            f"{folder.parent}: cannot be loaded: {folder.name} has no file named diffusion_pytorch_model.safetensors "
            f"or model.safetensors, only {pickles[0]}; pickles are refused: write the folder anew with save_pretrained"
        )
    raise ValueError(f"{folder.parent}: cannot be loaded: {folder.name} has no weights (*.safetensors)")


def _variants(folder: Path) -> Iterator[str | None]:
    """The variant of each file of weights: model.fp16-00001-of-00002 and model-00001-of-00002.fp16 are of fp16."""
    for file in folder.iterdir():
        if file.suffix in WEIGHTS:
            _, *words = file.name.removesuffix(file.suffix).split(".")
            yield words[0].split("-")[0] if words else None


def _other(folder: Path) -> str:
    """What a folder without an index is, and what to do."""
    if not folder.is_dir():
        return "a file, not a folder"
    files = sorted(path.name for path in folder.iterdir())
    if "intervention.json" in files:
        return "a trained run of this project; name its backbone, and give this folder with --run"
    if "adapter_config.json" in files or any("lora" in name for name in files):
        return "a LoRA, not a checkpoint; give the checkpoint that it changes"
    if nested := next(iter(sorted(folder.glob(f"*/{INDEX}"))), None):
        return f"holds no {INDEX}; there is one in {nested.parent}: set path to that folder"
    if "config.json" in files:
        try:
            kind = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("_class_name", "a model")
        except (ValueError, AttributeError):
            kind = "a model"
        return f"holds no {INDEX} but one part ({kind}); set path to the folder of the whole pipeline"
    if single := [name for name in files if name.endswith((*WEIGHTS, *PICKLES))]:
        return f"holds no {INDEX} but {single[0]}; set path to that file, if it is a whole checkpoint"
    return f"cannot be loaded: holds no {INDEX}; have: {', '.join(files[:5]) or 'nothing'}"
