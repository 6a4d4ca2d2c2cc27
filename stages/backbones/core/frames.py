"""An autoencoder of pictures behind the interface of CogVideoX's autoencoder of clips."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers import AutoencoderTiny, ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput
from torch import Tensor

FOLD = 4  # frames of one latent frame


class FrameAutoencoder(ModelMixin, ConfigMixin):
    """Encodes each frame by itself; a latent frame has the channels of several frames, the first those of one.

    A folder saved with it is loaded by an unmodified pipeline wherever this module can be imported, since the
    pipeline's index names it.
    """

    @register_to_config
    def __init__(
        self,
        picture: Mapping[str, Any],
        block_out_channels: Sequence[int],
        scaling_factor: float = 1.0,
        temporal_compression_ratio: int = FOLD,
    ) -> None:
        super().__init__()
        self.frames = AutoencoderTiny.from_config(dict(picture))

    @classmethod
    def of(cls, picture: AutoencoderTiny, fold: int = FOLD) -> FrameAutoencoder:
        """The autoencoder of clips whose frames `picture` encodes."""
        known = inspect.signature(AutoencoderTiny.__init__).parameters
        config = {key: value for key, value in picture.config.items() if key in known}
        clips = cls(config, config["encoder_block_out_channels"], config["scaling_factor"], fold)
        clips.frames.load_state_dict(picture.state_dict())
        return clips

    def encode(self, clips: Tensor, return_dict: bool = False) -> tuple[Tensor]:
        """Clips (B, 3, 1 + k n, H, W) in [-1, 1] to latents (B, k C, 1 + n, h, w); the first frame stands alone.

        ValueError for another number of frames.
        """
        fold = self.config.temporal_compression_ratio
        if (clips.shape[2] - 1) % fold:
            raise ValueError(f"a clip must have 1 + {fold} n frames, got {clips.shape[2]}")
        frames = clips.transpose(1, 2)
        latents = self.frames.encode(frames.flatten(0, 1)).latents.unflatten(0, frames.shape[:2])
        latents = torch.cat([latents[:, :1].expand(-1, fold - 1, -1, -1, -1), latents], 1)
        return (latents.unflatten(1, (-1, fold)).flatten(2, 3).transpose(1, 2),)

    def decode(self, latents: Tensor, return_dict: bool = True) -> DecoderOutput | tuple[Tensor]:
        """Latents (B, k C, 1 + n, h, w) to clips (B, 3, 1 + k n, H, W), the first from the mean of its copies."""
        fold = self.config.temporal_compression_ratio
        parts = latents.transpose(1, 2).unflatten(2, (fold, -1))  # (B, 1 + n, k, C, h, w)
        frames = torch.cat([parts[:, 0].mean(1, keepdim=True), parts[:, 1:].flatten(1, 2)], 1)
        clips = self.frames.decode(frames.flatten(0, 1)).sample.unflatten(0, frames.shape[:2]).transpose(1, 2)
        return DecoderOutput(sample=clips) if return_dict else (clips,)
