"""What text-to-video families share: latents (B, f, C, h, w), pipelines that know their autoencoder's factors."""

from __future__ import annotations

from abc import abstractmethod

import torch
from diffusers import DiffusionPipeline
from torch import Tensor

from stages.backbones.core.base import Settings, State
from stages.backbones.core.finite import pictured
from stages.backbones.core.latent import Latent


class Clips(Latent):
    """Clips are (B, F, 3, H, W); the autoencoder's own order is (B, C, f, h, w)."""

    # what a family provides, beside what `Latent` asks for

    @abstractmethod
    def own_size(self) -> tuple[int, int, int]:
        """Frames, height and width in pixels where the settings do not say."""

    @abstractmethod
    def scaled(self, latent: Tensor) -> Tensor:
        """The autoencoder's latents (B, C, f, h, w) as the network sees them."""

    @abstractmethod
    def unscaled(self, latent: Tensor) -> Tensor:
        """The inverse."""

    # what they share

    def __init__(self, name: str, settings: Settings, pipeline: DiffusionPipeline, device: str = "cpu") -> None:
        super().__init__(name, settings, pipeline, device)
        tempo = pipeline.vae_scale_factor_temporal
        if settings.frames and (settings.frames - 1) % tempo:
            raise ValueError(f"{name}: frames must be 1 + {tempo} n, got {settings.frames}")

    @property
    def factor(self) -> int:
        """Pixels per latent, along one side."""
        return self.pipeline.vae_scale_factor_spatial

    def frames(self) -> int:
        """Frames of a clip."""
        return self.settings.frames or self.own_size()[0]

    def latent_shape(self) -> tuple[int, ...]:
        """(f, C, h, w); the first latent frame is one frame, each later one several."""
        _, *size = self.own_size()
        height, width = self.settings.size or size
        later = (self.frames() - 1) // self.pipeline.vae_scale_factor_temporal
        return later + 1, self.net.config.in_channels, height // self.factor, width // self.factor

    def decode(self, latent: Tensor) -> Tensor:
        """Latents to clips (B, F, 3, H, W) in [0, 1]."""
        latent = self.unscaled(latent.to(self.vae.dtype).transpose(1, 2))
        with self._working(self.vae):
            clips = self.vae.decode(latent, return_dict=False)[0]
        return pictured(clips.transpose(1, 2))

    def embed(self, images: Tensor) -> Tensor:
        """Clips (B, F, 3, H, W) in [0, 1] to latents; the mean, where the autoencoder has a distribution."""
        clips = images.to(self.home, self.vae.dtype).transpose(1, 2) * 2 - 1
        with self._working(self.vae):
            encoded = self.vae.encode(clips, return_dict=False)[0]
        latent = encoded.mean if hasattr(encoded, "deterministic") else encoded
        return self.scaled(latent).transpose(1, 2)

    def examples(self, images: Tensor, generator: torch.Generator) -> tuple[State, Tensor]:
        """As everywhere, of clips (B, F, 3, H, W); a picture (B, 3, H, W) counts as a clip at rest."""
        if images.ndim == 4:
            images = images[:, None].expand(-1, self.frames(), -1, -1, -1)
        return super().examples(images, generator)
