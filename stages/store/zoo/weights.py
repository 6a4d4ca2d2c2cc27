"""Weights in 16 bits and back, as the bytes of safetensors files."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor

SUFFIX = ".safetensors"
DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}


def halved(path: Path, dtype: str) -> tuple[bytes, str | None, float]:
    """A file with its weights in `dtype`, the type that they had, and the largest relative error of a tensor.

    The error is |stored - original| / |original|, both norms over a tensor. Whole numbers stay as they are. ValueError
    for a damaged file, for weights of several types, and for ones too large for `dtype`.
    """
    tensors, metadata = _read(path)
    weights = {name: value for name, value in tensors.items() if value.is_floating_point()}
    kinds = {str(value.dtype).removeprefix("torch.") for value in weights.values()}
    if len(kinds) > 1:
        raise ValueError(f"{path}: weights of several types ({', '.join(sorted(kinds))}); save it in one")
    if not kinds:
        return path.read_bytes(), None, 0.0
    cast = {name: value.to(DTYPES[dtype]) for name, value in weights.items()}
    for name, value in cast.items():
        if not torch.isfinite(value).all():
            largest = float(weights[name].abs().max())
            raise ValueError(
                f"{path}: {name} reaches {largest:g}, too much for {dtype}; store it with --dtype bfloat16"
            )
    error = max(_error(weights[name], value) for name, value in cast.items())
    return save(tensors | cast, metadata), kinds.pop(), error


def restored(content: bytes, dtype: str) -> bytes:
    """The bytes of a file with its weights in `dtype`; names, shapes and metadata stay."""
    tensors = load(content)
    length = int.from_bytes(content[:8], "little")
    metadata = _metadata(content[8 : 8 + length])
    cast = {name: v.to(DTYPES[dtype]) if v.is_floating_point() else v for name, v in tensors.items()}
    return save(cast, metadata)


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {"format": "pt"}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path}: not a whole safetensors file ({error})") from error


def _metadata(header: bytes) -> dict[str, str]:
    return json.loads(header).get("__metadata__") or {"format": "pt"}


def _error(original: Tensor, stored: Tensor) -> float:
    size = float(original.double().norm())
    return float((stored.double() - original.double()).norm()) / size if size else 0.0
