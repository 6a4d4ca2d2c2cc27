"""Text-to-video families: latents (B, f, C, h, w), and a pipeline that knows its autoencoder's factors."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from stages.backbones.core.finite import pictured
from stages.backbones.core.latent import Latent
from stages.backbones.core.sizes import check_frames, check_size
from stages.control.state import State


class Clips(Latent):
    """Clips are (B, F, 3, H, W); the autoencoder's own order is (B, C, f, h, w)."""

    # what a family provides beside `Latent`'s methods

    @abstractmethod
    def _own_size(self) -> tuple[int, int, int]:
        """Frames, height and width in pixels, for settings that do not say."""

    @abstractmethod
    def scaled(self, latent: Tensor) -> Tensor:
        """The autoencoder's latents (B, C, f, h, w) on the network's scale, same shape."""

    @abstractmethod
    def unscaled(self, latent: Tensor) -> Tensor:
        """Latents (B, C, f, h, w) on the autoencoder's scale, the inverse of `scaled`."""

    # what they share

    @property
    def factor(self) -> int:
        """Pixels per latent, along one side."""
        return self.pipeline.vae_scale_factor_spatial

    def frames(self) -> int:
        """The number of frames of a clip."""
        return self.settings.frames or self._own_size()[0]

    def latent_shape(self) -> tuple[int, ...]:
        """(f, C, h, w); the first latent frame is one frame, each later one several."""
        _, *size = self._own_size()
        height, width = self.settings.size or size
        later = (self.frames() - 1) // self.pipeline.vae_scale_factor_temporal
        return later + 1, self.net.config.in_channels, height // self.factor, width // self.factor

    def decode(self, latent: Tensor) -> Tensor:
        """Latents (B, f, C, h, w) to clips (B, F, 3, H, W) in [0, 1]."""
        latent = self.unscaled(latent.to(self.vae.dtype).transpose(1, 2))
        with self._working(self.vae):
            clips = self.vae.decode(latent, return_dict=False)[0]
        return pictured(clips.transpose(1, 2))

    def embed(self, images: Tensor) -> Tensor:
        """Clips (B, F, 3, H, W) in [0, 1] to latents (B, f, C, h, w); the mean if the encoder gives a distribution."""
        clips = images.to(self.home, self.vae.dtype).transpose(1, 2) * 2 - 1
        with self._working(self.vae):
            encoded = self.vae.encode(clips, return_dict=False)[0]
        latent = encoded.mean if hasattr(encoded, "deterministic") else encoded
        return self.scaled(latent).transpose(1, 2)

    def examples(self, images: Tensor, generator: torch.Generator, *, together: bool = False) -> tuple[State, Tensor]:
        """`Latent.examples` for clips (B, F, 3, H, W); a picture (B, 3, H, W) is repeated for every frame."""
        if images.ndim == 4:
            images = images[:, None].expand(-1, self.frames(), -1, -1, -1)
        return super().examples(images, generator, together=together)

    def _check_size(self) -> None:
        """ValueError for a size or a number of frames that the network cannot draw."""
        check_frames(self.name, self.settings.frames, self.pipeline.vae_scale_factor_temporal)
        check_size(self.name, self.settings.size, self._multiple())
