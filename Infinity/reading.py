"""Read the tensors of any file Infinity's weights come in, without running what a pickle might hold."""

from __future__ import annotations

import argparse
import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

INDEX_FILE = "model.safetensors.index.json"
SINGLE_FILE = "model.safetensors"

# Where weights hide in a training checkpoint, and in a tokenizer file: (path to the weights, path to their average).
_NESTED = ((("trainer", "gpt_fsdp"), ("trainer", "gpt_ema_fsdp")), (("vae",), ("ema",)))

_SCALARS = (np.bool_, np.int32, np.int64, np.float32, np.float64)
_ALLOWED = [
    torch._tensor._rebuild_from_type_v2,  # parameters that carry attributes
    argparse.Namespace,
    np.dtype,
    *(type(np.dtype(scalar)) for scalar in _SCALARS),
    (np._core.multiarray.scalar, "numpy.core.multiarray.scalar"),
    (np._core.multiarray.scalar, "numpy._core.multiarray.scalar"),
]


class CheckpointError(ValueError):
    """A checkpoint that cannot be read or does not belong here."""


def read_state(path: str | Path, *, ema: bool = False) -> dict[str, Tensor]:
    """Tensors by name from a `.pth`, a `.safetensors` or a folder of safetensors; `ema` asks for the averaged ones."""
    path = Path(path)
    if path.is_dir():
        return _read_folder(path)
    if not path.is_file():
        raise CheckpointError(f"no such checkpoint: {path}")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    return _weights(_read_pickle(path), path, ema)


def _read_folder(folder: Path) -> dict[str, Tensor]:
    index = folder / INDEX_FILE
    if not index.is_file():
        return _read_safetensors(folder / SINGLE_FILE)
    where: dict[str, str] = json.loads(index.read_text())["weight_map"]
    state: dict[str, Tensor] = {}
    for name in sorted(set(where.values())):
        if Path(name).name != name:
            raise CheckpointError(f"{index} names a file outside its folder: {name}")
        state |= _read_safetensors(folder / name)
    missing = [name for name in where if name not in state]
    if missing:
        raise CheckpointError(f"{index} promises {len(missing)} tensors that its shards lack, such as {missing[0]}")
    return state


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise CheckpointError(f"no such checkpoint: {path}")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise CheckpointError(f"{path} is damaged or cut short: {error}") from error


def _read_pickle(path: Path) -> Any:
    """Tensors, plain containers, and the few harmless types that training checkpoints hold besides."""
    try:
        with torch.serialization.safe_globals(_ALLOWED):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=_is_zip(path))
    except pickle.UnpicklingError as error:
        first = str(error).strip().splitlines()[0]
        raise CheckpointError(f"{path} holds more than tensors and was not opened: {first}") from error
    except (RuntimeError, EOFError, OSError) as error:
        raise CheckpointError(f"{path} is damaged or cut short: {str(error).splitlines()[0]}") from error


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def _weights(content: Any, path: Path, ema: bool) -> dict[str, Tensor]:
    for plain, average in _NESTED:
        found = _descend(content, average if ema else plain)
        if found is not None:
            return found
    if ema:
        raise CheckpointError(f"{path} holds no averaged (EMA) weights")
    flat = _tensors(content)
    if not flat:
        keys = ", ".join(map(str, list(content)[:5])) if isinstance(content, Mapping) else type(content).__name__
        raise CheckpointError(f"{path} holds no weights that are known here (it has: {keys})")
    return flat


def _descend(content: Any, keys: tuple[str, ...]) -> dict[str, Tensor] | None:
    for key in keys:
        if not isinstance(content, Mapping) or key not in content:
            return None
        content = content[key]
    return _tensors(content) or None


def _tensors(content: Any) -> dict[str, Tensor]:
    if not isinstance(content, Mapping):
        return {}
    return {str(name): value.detach() for name, value in content.items() if isinstance(value, Tensor)}
