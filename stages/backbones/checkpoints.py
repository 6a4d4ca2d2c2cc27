"""Loading pipelines from a folder or a repository, with errors that say which file, which licence and which command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from stages.backbones.base import Settings

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def load_pipeline(cls: type, settings: Settings, device: str, **parts: Any) -> Any:
    """A diffusers pipeline from settings.path; never runs remote code, never reads pickles.

    Raises FileNotFoundError or ValueError in one line that names the missing file and the command that brings it.
    """
    if settings.dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {settings.dtype!r}")
    folder = Path(settings.path)
    local = folder.is_dir()
    if settings.world and not (folder / "model_index.json").is_file():
        raise FileNotFoundError(
            f"{folder}/model_index.json is missing; make it with: snakemake --cores all {folder}/model_index.json"
        )
    try:
        pipeline = cls.from_pretrained(
            settings.path, dtype=DTYPES[settings.dtype], revision=settings.revision, use_safetensors=True, **parts
        )
    except Exception as error:
        raise explain(error, settings, local) from error
    return pipeline.to(device)


def load_part(cls: type, part: str, settings: Settings) -> Any:
    """One part of the pipeline at settings.path, on the CPU."""
    try:
        return cls.from_pretrained(
            settings.path,
            subfolder=part,
            dtype=DTYPES[settings.dtype],
            revision=settings.revision,
            use_safetensors=True,
        )
    except Exception as error:
        raise explain(error, settings, Path(settings.path).is_dir()) from error


def explain(error: Exception, settings: Settings, local: bool) -> Exception:
    """The loading error of diffusers or the hub as one line with the way out."""
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    page = f"https://huggingface.co/{settings.path}"
    name = type(error).__name__
    if local:
        return ValueError(f"{settings.path}: cannot be loaded: {first}")
    if name == "GatedRepoError" or "gated" in str(error).lower():
        return FileNotFoundError(f"{settings.path} is gated: accept its licence at {page}, then run: hf auth login")
    return FileNotFoundError(
        f"{settings.path} is neither a folder nor in the local cache ({first}); "
        f"fetch it with: hf download {settings.path} (licence: {page})"
    )
