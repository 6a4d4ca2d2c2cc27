"""A folder of recorded numbers, the models it describes, and its tensors by name."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from ..names import from_published_tokenizer, from_published_transformer
from ..quantizer import Quantized
from ..reading import CheckpointError, read_state
from ..schedules import Schedule, schedule
from ..text import Text
from ..tokenizer import Tokenizer
from ..transformer import Infinity


class Fixture:
    """A folder of recorded numbers, and the models it describes."""

    def __init__(self, folder: str | Path) -> None:
        folder = Path(folder)
        if not (folder / "fixture.json").is_file():
            raise CheckpointError(f"{folder} holds no fixture.json")
        self.folder = folder
        self.manifest: dict[str, Any] = json.loads((folder / "fixture.json").read_text())
        self.results: dict[str, Any] = self.manifest.get("results", {})
        self.flags: dict[str, Any] = self.manifest.get("config", {}).get("infinity", {})
        self.patchify = 2 if self.flags.get("apply_spatial_patchify") else 1
        self._refuse_variants()

    def _refuse_variants(self) -> None:
        wanted = {"rope2d_each_sa_layer": 1, "rope2d_normalized_by_hw": 2, "add_lvl_embeding_only_first_block": 1}
        for name, value in {**wanted, "use_bit_label": 1, "shared_aln": 1}.items():
            if int(self.flags.get(name, value)) != value:
                raise CheckpointError(f"{self.folder}: {name} must be {value}, got {self.flags[name]}")

    def _file(self, name: str) -> dict[str, Tensor]:
        path = self.folder / f"{name}.safetensors"
        return load_file(path) if path.is_file() else {}

    @cached_property
    def inputs(self) -> dict[str, Tensor]:
        """Pictures and text."""
        return self._file("inputs")

    @cached_property
    def outputs(self) -> dict[str, Tensor]:
        """Recorded results."""
        return self._file("outputs")

    @cached_property
    def gradients(self) -> dict[str, Tensor]:
        """Recorded gradients, `loss.parameter`."""
        return self._file("grads")

    @cached_property
    def model(self) -> Infinity:
        """The transformer, its sizes read from its tensors."""
        state, config = from_published_transformer(read_state(self.folder / "transformer.safetensors"))
        return Infinity.from_state(config, state, source=self.folder)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer, its sizes read from its tensors."""
        published = read_state(self.folder / "vae.safetensors")
        state, config = from_published_tokenizer(published, patchify=self.patchify)
        return Tokenizer.from_state(config, state, source=self.folder)

    @cached_property
    def schedule(self) -> Schedule:
        """The published schedule that the manifest names, cut to the scales it used."""
        full = schedule(self.manifest["pn"], self.manifest["h_div_w"])
        return full.prefix(len(self.manifest["scale_schedule"]))

    def text(self, name: str) -> Text:
        """The `text` or `neg` prompts."""
        ends = self.inputs[f"{name}_cu_seqlens"]
        return Text(self.inputs[f"{name}_kv_compact"].float(), tuple(ends.diff().tolist()))

    @cached_property
    def quantized(self) -> Quantized:
        """Our encoding of the recorded picture."""
        with torch.no_grad():
            return self.tokenizer.encode(self.inputs["image"], self.schedule)


def tags(prefix: str, outputs: dict[str, Tensor]) -> list[str]:
    return sorted({name.removeprefix(prefix).split(".")[0] for name in outputs if name.startswith(prefix)})


def recorded(prefix: str, outputs: dict[str, Tensor]) -> list[Tensor]:
    """Tensors `prefix.0`, `prefix.1`, ... with the time axis (B, 1, h, w, d) dropped where there is one."""
    found: list[Tensor] = []
    while f"{prefix}.{len(found)}" in outputs:
        tensor = outputs[f"{prefix}.{len(found)}"]
        found.append(tensor.squeeze(1) if tensor.ndim == 5 else tensor)
    return found


def recorded_bits(prefix: str, outputs: dict[str, Tensor]) -> list[Tensor]:
    return [tensor.bool() for tensor in recorded(prefix, outputs)]
