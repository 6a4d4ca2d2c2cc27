"""Prompt embeddings kept on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from stages.store.files import replacing


class EmbeddingCache:
    """Encoded prompts as one safetensors file each, in a folder per set of text encoders."""

    def __init__(self, folder: Path | str, encoders: Mapping[str, nn.Module], settings: str = "") -> None:
        self.folder = Path(folder) / fingerprint(encoders, settings)

    def read(self, prompts: Iterable[str], device: torch.device) -> dict[str, dict[str, Tensor]]:
        """What is there of the prompts; a damaged file counts as absent."""
        found = {}
        for prompt in prompts:
            try:
                found[prompt] = load_file(self._path(prompt), device=str(device))
            except (FileNotFoundError, SafetensorError):
                continue
        return found

    def write(self, rows: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Keeps the tensors of each prompt."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for prompt, tensors in rows.items():
            with replacing(self._path(prompt)) as temporary:
                save_file({name: value.cpu().contiguous() for name, value in tensors.items()}, temporary)

    def _path(self, prompt: str) -> Path:
        return self.folder / f"{hashlib.sha256(prompt.encode()).hexdigest()[:32]}.safetensors"


def fingerprint(encoders: Mapping[str, nn.Module], settings: str = "") -> str:
    """A digest of the settings and of a few numbers of every weight: other encoders give another."""
    digest = hashlib.sha256(settings.encode())
    for part, encoder in encoders.items():
        for name, value in encoder.named_parameters():
            few = value.detach().flatten()[:: max(1, value.numel() // 8)].float().cpu().numpy()
            digest.update(f"{part}.{name} {tuple(value.shape)} {value.dtype}".encode() + few.tobytes())
    return digest.hexdigest()[:16]
