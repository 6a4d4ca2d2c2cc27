"""`save_pretrained` and `from_pretrained`: a folder of safetensors (sharded when large) and config.json."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from .reading import CheckpointError, read_state

CONFIG_FILE = "config.json"


class Pretrained(nn.Module):
    """A module that one config object describes, saved as safetensors and config.json."""

    config_class: ClassVar[Any]

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config

    def save_pretrained(self, folder: str | Path, *, max_shard_size: str = "5GB") -> None:
        """Write the weights to `folder`, then config.json, so that a half-written folder does not load.

        An older config.json is removed first, so a folder that is overwritten does not load until it is complete.
        """
        from huggingface_hub import save_torch_state_dict

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CONFIG_FILE).unlink(missing_ok=True)
        save_torch_state_dict(self.state_dict(), folder, max_shard_size=max_shard_size)
        values = {"_class_name": type(self).__name__, **self.config.to_dict()}
        temporary = folder / f"{CONFIG_FILE}.part"
        temporary.write_text(json.dumps(values, indent=2) + "\n")
        os.replace(temporary, folder / CONFIG_FILE)

    @classmethod
    def from_pretrained(cls, folder: str | Path, *, device: torch.device | str = "cpu") -> Self:
        """The model saved in `folder`, in evaluation mode; CheckpointError names what is missing or does not fit."""
        path = Path(folder) / CONFIG_FILE
        if not path.is_file():
            raise CheckpointError(f"{folder} holds no {CONFIG_FILE}; a folder written by save_pretrained is needed")
        values = json.loads(path.read_text())
        if values.get("_class_name", cls.__name__) != cls.__name__:
            raise CheckpointError(f"{folder} holds a {values['_class_name']}, not a {cls.__name__}")
        return cls.from_state(cls.config_class.from_dict(values), read_state(folder), source=folder, device=device)

    @classmethod
    def from_state(
        cls,
        config: Any,
        state: Mapping[str, Tensor],
        *,
        source: str | Path = "the given tensors",
        device: torch.device | str = "cpu",
    ) -> Self:
        """The model of `config` with the tensors of `state` (our names), in evaluation mode; no weight is drawn.

        CheckpointError, with the first few names, if tensors are missing, unknown or of another shape.
        """
        with torch.device("meta"):
            model = cls(config)
        check_tensors({name: tuple(value.shape) for name, value in model.state_dict().items()}, state, source)
        model.load_state_dict(state, assign=True)
        return model.to(device).eval()


def check_tensors(wanted: Mapping[str, tuple[int, ...]], state: Mapping[str, Tensor], source: str | Path) -> None:
    """CheckpointError with the first few tensors that are missing, unknown or of another shape than `wanted`."""
    problems = {
        "missing": [name for name in wanted if name not in state],
        "unknown": [name for name in state if name not in wanted],
        "of another shape": [
            f"{name} {tuple(state[name].shape)} instead of {shape}"
            for name, shape in wanted.items()
            if name in state and tuple(state[name].shape) != shape
        ],
    }
    said = [f"{len(names)} {kind}: {_first(names)}" for kind, names in problems.items() if names]
    if said:
        raise CheckpointError(f"{source} does not fit the model; tensors {'; '.join(said)}")


def _first(names: list[str], count: int = 3) -> str:
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "")
