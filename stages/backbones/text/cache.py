"""A cache of prompt embeddings on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from stages.store.files import replacing


class EmbeddingCache:
    """Encoded prompts as one safetensors file each, in a folder per set of text encoders."""

    def __init__(
        self, folder: Path | str, encoders: Mapping[str, nn.Module], settings: str = "", device: str = "cpu"
    ) -> None:
        self.folder, self.device = Path(folder) / fingerprint(encoders, settings), device

    def read(self, prompts: Iterable[str]) -> dict[str, dict[str, Tensor]]:
        """The tensors of those prompts that are there, on the device; a damaged file counts as absent."""
        rows = {}
        for prompt in prompts:
            try:
                rows[prompt] = load_file(self._path(prompt), device=self.device)
            except (FileNotFoundError, SafetensorError):
                continue
        return rows

    def write(self, rows: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Writes the tensors of each prompt to a file of its own."""
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
