"""Safetensors files that are written one tensor after another, so that no more than one is in memory."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from stages.store.files import replacing
from stages.store.finite import check_tensors

DTYPES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.float64: "F64", torch.uint8: "U8"}
ALIGNED = 8  # bytes that a header's length is a multiple of
Index = int | slice | tuple[int | slice | Sequence[int], ...]


def write_alike(path: Path, names: Sequence[str], tensors: Iterable[Tensor], metadata: Mapping[str, str]) -> None:
    """Writes tensors that all have the first one's shape and type under their names, whole or not at all.

    ValueError for another number of tensors than of names, or one that is not like the first.
    """
    each = iter(tensors)
    with replacing(path) as temporary, temporary.open("wb") as file:
        first = next(each)
        file.write(_header(names, first, metadata))
        count = 0
        for count, tensor in enumerate(_chained(first, each), start=1):
            if (tensor.shape, tensor.dtype) != (first.shape, first.dtype):
                raise ValueError(f"{path}: {names[count - 1]!r} is {_said(tensor)}, the first one {_said(first)}")
            file.write(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
        if count != len(names):
            raise ValueError(f"{path}: {count} tensors for {len(names)} names")


class Stored:
    """A tensor in a file, (n, ...): what is indexed is read, checked and copied, and nothing else is in memory."""

    def __init__(self, file: Any, path: Path, name: str, advice: str) -> None:
        self._file, self._slice = file, file.get_slice(name)  # the file stays open as long as the tensor
        self.path, self.name, self.advice = path, name, advice
        self.shape: tuple[int, ...] = tuple(self._slice.get_shape())

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Index) -> Tensor:
        """The part at an index of its first axes, as of a tensor; FloatingPointError if it is not finite."""
        first, *others = index if isinstance(index, tuple) else (index,)
        rows = slice(first, first + 1) if isinstance(first, int) else first
        # a copy, since a product's last bit depends on where its factors lie in memory
        part = self._slice[(rows, *others)].clone()
        check_tensors(str(self.path), {self.name: part}, self.advice)
        return part[0] if isinstance(first, int) else part


def open_stored(path: Path, advice: str) -> tuple[dict[str, Stored], dict[str, str]]:
    """The tensors of a file by name, none of them read yet, and its metadata; `advice` is for values not finite.

    FileNotFoundError; ValueError for a file that is damaged.
    """
    try:
        file = safe_open(path, framework="pt")
        return {name: Stored(file, path, name, advice) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path}: not a whole safetensors file ({error})") from error


def _header(names: Sequence[str], like: Tensor, metadata: Mapping[str, str]) -> bytes:
    size = like.numel() * like.element_size()
    entries: dict[str, Any] = {"__metadata__": dict(metadata)}
    for number, name in enumerate(names):
        entry = {"dtype": DTYPES[like.dtype], "shape": list(like.shape)}
        entries[name] = entry | {"data_offsets": [number * size, (number + 1) * size]}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNED)
    return len(text).to_bytes(8, "little") + text


def _chained(first: Tensor, others: Iterator[Tensor]) -> Iterator[Tensor]:
    yield first
    yield from others


def _said(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} of {tensor.dtype}"
