"""A checkpoint in one file, in the layout of the original release: read where diffusers can do so without a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import safe_open

from stages.backbones.core.settings import Settings
from stages.backbones.loading.folders import PICKLES, WEIGHTS, check_family, check_file

KINDS = (  # part of a tensor's name, and the pipeline that such files are of, the most telling first
    ("conditioner.embedders.1.", "StableDiffusionXLPipeline"),
    ("joint_blocks.", "StableDiffusion3Pipeline"),
    ("double_blocks.", "FluxPipeline"),
    ("cond_stage_model.", "StableDiffusionPipeline"),
)
SMALL = (("lora", "a LoRA"), ("emb_params", "a learned word"), ("clip_l", "a learned word"))


def load_one_file(cls: type[Any], settings: Settings, dtype: Any, **parts: Any) -> Any:
    """The diffusers pipeline `cls` of a .safetensors file at settings.path, some parts given in place of the file's.

    ValueError in one line for a pickle, a LoRA, another family's file, and a family whose configuration is not here.
    """
    path = Path(settings.path)
    check_file(path)
    if path.suffix.lower() in PICKLES:
        raise ValueError(
            f"{path} is a pickle, which can run code when it is opened, and is refused: "
            f"get the .safetensors of the same release, or its folder in the format of diffusers"
        )
    if path.suffix.lower() not in WEIGHTS:
        raise ValueError(f"{path} is no checkpoint: expected a folder or a .safetensors file")
    _check_kind(cls, settings)
    write = f"from diffusers import {cls.__name__} as P; P.from_single_file('{path}')"
    target = f"checkpoints/{path.stem}"
    try:
        return cls.from_single_file(str(path), torch_dtype=dtype, local_files_only=True, **parts)
    except Exception as error:
        said = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(
            f"{path} is one file, for which diffusers needs its family's configuration from the hub ({said}); with a "
            f"network, run: python -c \"{write}.save_pretrained('{target}')\" and set path: {target}"
        ) from error


def _check_kind(cls: type, settings: Settings) -> None:
    """ValueError for a file that is no whole checkpoint, or of another family's."""
    with safe_open(settings.path, "pt") as file:
        names = list(file.keys())
    for word, what in SMALL:
        if names and all(word in name.lower() or name.endswith("alpha") for name in names):
            raise ValueError(f"{settings.path} is {what}, not a checkpoint; give the checkpoint that it changes")
    held = next((pipeline for word, pipeline in KINDS if any(word in name for name in names)), "")
    check_family(settings, cls.__name__, {"_class_name": held})
    if not hasattr(cls, "from_single_file"):
        raise ValueError(f"{settings.path}: {cls.__name__} is not read from one file; give a folder in its format")
