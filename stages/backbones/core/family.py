"""A family of backbones: how they are loaded, made from scratch, trained and saved."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from stages.backbones.core.base import Backbone
from stages.backbones.core.settings import Settings


class Family(Backbone):
    """A backbone with files of its own; the `class` of a file in params/backbones/ is one."""

    @classmethod
    @abstractmethod
    def load(cls, name: str, settings: Settings, device: str = "cpu") -> Self:
        """The checkpoint at settings.path; FileNotFoundError or ValueError in one line for what cannot be loaded."""

    @classmethod
    @abstractmethod
    def create(cls, name: str, settings: Settings, tokenizer: Any, vae: Any, seed: int, device: str = "cpu") -> Self:
        """A network and text encoders with random weights, as settings.build describes them."""

    @classmethod
    @abstractmethod
    def load_autoencoder(cls, folder: Path | str) -> Any:
        """The part of a world that turns pictures into what the network works on, and back."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Writes a folder that `load` reads, and the ecosystem's own classes if there are any."""

    @abstractmethod
    def embed(self, images: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) or clips (B, F, 3, H, W) in [0, 1] as the network's latents or features (B, ...)."""

    @abstractmethod
    def training_loss(
        self, clean: Tensor, captions: Sequence[str], generator: torch.Generator, draws: int = 1
    ) -> Tensor:
        """The loss (scalar) of a training from scratch on what `embed` gave (B, ...), and the captions.

        Each row takes the noisiest of `draws` random times, in families with training times.
        """
