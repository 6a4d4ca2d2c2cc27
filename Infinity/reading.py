"""Read the tensors of any file Infinity's weights come in; nothing that a pickle holds is ever run.

Files may be safetensors or torch's, whatever they are called; folders may hold one file, or shards with or without an
index. Weights may lie inside a training checkpoint (`trainer.gpt_fsdp`, `vae`, `state_dict` ...), their names behind
any prefix (`module.`, `gpt_wo_ddp.` ...) or inside the wrappers of FSDP and torch.compile.
"""

from __future__ import annotations

import argparse
import collections
import json
import pathlib
import pickle
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy._core import multiarray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from .recognise import UNFINISHED, other_file, other_folder

INDEX_FILE = "model.safetensors.index.json"
SINGLE_FILE = "model.safetensors"
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")

_WRAPPERS = re.compile(r"(_fsdp_wrapped_module|_checkpoint_wrapped_module|_orig_mod)\.")
_SHARD = re.compile(r"^(.+)-(\d+)-of-(\d+)$")
_AVERAGE = re.compile(r"(^|_)ema(_|$)")  # keys of averaged weights
_OPTIMISER = re.compile(r"opt(im|_|$)")
_DEPTH = 4  # how deep weights may lie in a training checkpoint

_SCALARS = (np.bool_, np.int32, np.int64, np.uint32, np.float32, np.float64)
_ARRAYS: tuple[Any, ...] = (multiarray.scalar, multiarray._reconstruct)
_ALLOWED: list[Any] = [
    torch._tensor._rebuild_from_type_v2,  # parameters that carry attributes
    argparse.Namespace,
    collections.deque,
    pathlib.PosixPath,
    np.ndarray,
    np.dtype,
    *(type(np.dtype(scalar)) for scalar in _SCALARS),
    *((one, f"{module}.{one.__name__}") for one in _ARRAYS for module in ("numpy.core.multiarray", one.__module__)),
]


class CheckpointError(ValueError):
    """A checkpoint that cannot be read or does not belong here."""


def read_state(path: str | Path, *, ema: bool = False, anchor: str = "") -> dict[str, Tensor]:
    """Tensors by name from a file or folder; `ema` asks for the averaged ones.

    `anchor` is (the beginning of) the name of one of the wanted tensors: it chooses among several models in one file,
    and what precedes it in the file's names is cut off. Without it, or if nothing has it, the model with the most
    tensors is taken. CheckpointError says what the file is if it cannot be read.
    """
    path = Path(path).expanduser()
    if not path.exists():
        unfinished = [near.name for suffix in UNFINISHED if (near := path.with_name(path.name + suffix)).exists()]
        hint = f"; {unfinished[0]} is an unfinished download" if unfinished else ""
        raise CheckpointError(f"no such checkpoint: {path}{hint}")
    content = _read_folder(path) if path.is_dir() else _read_file(path)
    return _choose(content, path, ema, anchor)


def _read_folder(folder: Path) -> Any:
    kind = other_folder(folder)
    if kind is not None:
        raise CheckpointError(f"{folder} is {kind}")
    indices = sorted(folder.glob("*.index.json"), key=lambda path: path.name != INDEX_FILE)
    if indices:
        return _read_shards(indices[0])
    if (folder / SINGLE_FILE).is_file():
        return _read_file(folder / SINGLE_FILE)
    files = sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES)
    shards = [match for path in files if (match := _SHARD.match(path.stem))]
    if files and len(shards) == len(files) == int(shards[0][3]):
        return {name: value for path in files for name, value in _shard(path).items()}
    if shards:
        raise CheckpointError(f"{folder} holds {len(shards)} of {int(shards[0][3])} shards and no index of them")
    if len(files) == 1:
        return _read_file(files[0])
    have = ", ".join(path.name for path in files[:5])
    raise CheckpointError(f"{folder} holds {'several checkpoints; name one of ' + have if files else 'no checkpoint'}")


def _read_shards(index: Path) -> dict[str, Tensor]:
    try:
        shard_of: dict[str, str] = json.loads(index.read_text())["weight_map"]
    except (ValueError, KeyError, TypeError) as error:
        kind = other_file(index) or "damaged"
        raise CheckpointError(f"{index} is no index of shards; it is {kind}") from error
    state: dict[str, Tensor] = {}
    for name in sorted(set(shard_of.values())):
        if Path(name).name != name:
            raise CheckpointError(f"{index} names a file outside its folder: {name}")
        state |= _shard(index.parent / name)
    missing = [name for name in shard_of if name not in state]
    if missing:
        raise CheckpointError(f"{index} promises {len(missing)} tensors that its shards lack, such as {missing[0]}")
    return state


def _shard(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise CheckpointError(f"no such checkpoint: {path}, which is one of several shards")
    return _tensors(_read_file(path))


def _read_file(path: Path) -> Any:
    kind = other_file(path)
    if kind is not None:
        raise CheckpointError(f"{path} is {kind}")
    with path.open("rb") as file:
        head = file.read(9)
    if path.suffix == ".safetensors" and not head.startswith(b"PK") or head[8:] == b"{":
        return _read_safetensors(path)
    return _read_pickle(path, zipped=head.startswith(b"PK\x03\x04"))


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise CheckpointError(f"{path} is damaged or cut short{_length(path)}: {error}") from error


def _length(path: Path) -> str:
    """How many bytes a safetensors file has and should have, as far as its header says."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        try:
            header = json.loads(file.read(min(size, 10**8)))
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        except (ValueError, TypeError, KeyError, IndexError, AttributeError):
            return ""
    return f" ({path.stat().st_size:,} of {8 + size + max(ends, default=0):,} bytes)"


def _read_pickle(path: Path, *, zipped: bool) -> Any:
    """Tensors, plain containers, and the few harmless types that training checkpoints hold besides."""
    named_wrongly = path.suffix == ".safetensors"  # torch goes by the name, unless it gets an open file
    try:
        with torch.serialization.safe_globals(_ALLOWED), path.open("rb") as file:
            source, mmap = (file, False) if named_wrongly else (path, zipped)
            return torch.load(source, map_location="cpu", weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        message = str(error).strip()
        name = re.search(r"GLOBAL (\S+)", message)
        reason = f"it would run {name[1]}" if name else message.splitlines()[0]
        hint = "; where it was made, save its weights alone, as safetensors"
        raise CheckpointError(f"{path} holds more than tensors and was not opened: {reason}{hint}") from error
    except (RuntimeError, EOFError, OSError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        size = f"{path.stat().st_size:,} bytes"
        raise CheckpointError(f"{path} is damaged or cut short ({size}; download it again?): {first}") from error


def _choose(content: Any, path: Path, ema: bool, anchor: str) -> dict[str, Tensor]:
    """The state dict of `content` that is wanted, its names from `anchor` on."""
    states = [state for keys, state in _states(content) if any(map(_AVERAGE.search, keys)) == ema]
    if not states:
        if ema:
            raise CheckpointError(f"{path} holds no averaged (EMA) weights")
        if isinstance(content, Mapping) and "param_groups" in content:
            raise CheckpointError(f"{path} is an optimizer's state, without weights")
        keys = ", ".join(map(str, list(content)[:5])) if isinstance(content, Mapping) else type(content).__name__
        raise CheckpointError(f"{path} holds no weights that are known here (it has: {keys})")
    begins = re.compile(r"(^|\.)" + re.escape(anchor))
    for state in states if anchor else ():
        match = next(filter(None, map(begins.search, state)), None)
        if match is not None:
            prefix = match.string[: match.end() - len(anchor)]
            return {name.removeprefix(prefix): one for name, one in state.items() if name.startswith(prefix)}
    return max(states, key=len)


def _states(content: Any, keys: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], dict[str, Tensor]]]:
    """Every state dict in nested containers with the keys that lead to it; optimizers are left out."""
    if not isinstance(content, Mapping) or "param_groups" in content or len(keys) > _DEPTH:
        return
    state = _tensors(content)
    if state:
        yield keys, state
    for key, value in content.items():
        if isinstance(value, Mapping) and not _OPTIMISER.search(str(key).lower()):
            yield from _states(value, (*keys, str(key).lower()))


def _tensors(content: Any) -> dict[str, Tensor]:
    if not isinstance(content, Mapping):
        return {}
    named = ((str(name), value) for name, value in content.items() if isinstance(value, Tensor))
    return {_WRAPPERS.sub("", name): value.detach() for name, value in named}
