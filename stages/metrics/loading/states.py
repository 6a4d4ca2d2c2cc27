"""Weights in files of one's own, read without running a pickle's code."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from stages.params.project import located

ALLOWED = {  # what a pickled array of numpy is made of
    ("_codecs", "encode"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    *((f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
}


def read_state(path: str, what: str) -> dict[str, Tensor]:
    """The tensors of a file by name, .safetensors or a state of torch; what is under `state_dict` or `model` alone.

    `what` says which file it must be. FileNotFoundError or ValueError names one that is missing, damaged or not finite.
    """
    path = str(located(path))
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} is missing: the weights of {what}")
    try:
        if path.endswith(".safetensors"):
            state: Any = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, SafetensorError, pickle.UnpicklingError, EOFError) as error:
        raise ValueError(f"{path}: not a state of tensors: {' '.join(str(error).split())[:100]}") from None
    for key in ("state_dict", "model"):
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path}: not a state of tensors, which {what} must be")
    for name, value in state.items():
        if value.is_floating_point() and not value.isfinite().all():
            raise ValueError(f"{path}: {name} is not finite")
    return dict(state)


class _Arrays(pickle.Unpickler):
    """A pickle of numpy's arrays alone; whatever else it names is refused."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is no array")
        return super().find_class(module, name)


def read_rows(path: str, rows: int, what: str) -> Tensor:
    """A table (rows, D) of numbers from .safetensors, .npy, or a pickled array or list; no pickle's code is run.

    FileNotFoundError or ValueError names a file that is missing, of another shape, or not finite.
    """
    path = str(located(path))
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} is missing: {what}")
    try:
        if path.endswith(".safetensors"):
            table = next(iter(load_file(path).values()))
        elif path.endswith(".npy"):
            table = torch.from_numpy(np.load(path, allow_pickle=False))
        else:
            with open(path, "rb") as file:
                table = torch.from_numpy(np.asarray(_Arrays(file).load(), dtype=np.float32))
    except (OSError, EOFError, IndexError, TypeError, ValueError, SafetensorError, pickle.UnpicklingError) as error:
        said = " ".join(str(error).split())[:100]
        raise ValueError(f"{path}: no table of numbers ({said}); save {what} as .npy") from None
    if table.ndim != 2 or len(table) != rows or not table.isfinite().all():
        raise ValueError(f"{path}: expected {rows} finite rows ({what}), got {tuple(table.shape)}")
    return table.float()
