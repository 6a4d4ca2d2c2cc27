"""CogVideoX 2B and 5B (arXiv 2408.06072): text and video in one sequence, text first; predicts v from zero SNR on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderTiny,
    CogVideoXDDIMScheduler,
    CogVideoXDPMScheduler,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
)
from torch import Tensor, nn

from stages.backbones.core.clips import Clips
from stages.backbones.core.frames import FrameAutoencoder
from stages.backbones.core.settings import Settings
from stages.backbones.core.solver import Solver
from stages.backbones.text.encoders import t5
from stages.control.sites import Site, Tap, site_table


def sites(net: CogVideoXTransformer3DModel, text: int) -> dict[Site, Tap]:
    """Blocks on `text` tokens and the video's after them; the last block's text stream is dead.

    One layer modulates each norm of both streams.
    """
    video, words = (text, None), (0, text)
    rows = {
        "norm": Tap("norm1.linear"),
        "attn.heads": Tap("attn1.to_out.0", "input", tokens=video),
        "attn.heads@text": Tap("attn1.to_out.0", "input", tokens=words),
        "attn": Tap("attn1", item=0),
        "attn@text": Tap("attn1", item=1),
        "norm_ff": Tap("norm2.linear"),
        "ff.hidden": Tap("ff.net.0", tokens=video),
        "ff.hidden@text": Tap("ff.net.0", tokens=words),
        "ff": Tap("ff", tokens=video),
        "ff@text": Tap("ff", tokens=words),
        "block": Tap("", item=0),
        "block@text": Tap("", item=1),
    }
    blocks = [f"transformer_blocks.{i}" for i in range(len(net.transformer_blocks))]
    table = site_table(net, blocks, rows)
    return {site: tap for site, tap in table.items() if (site.block, site.stream) != (len(blocks) - 1, "text")}


class CogVideoXSolver(Solver):
    """Latents keep their precision, and the DPM scheduler leaves its history to its caller."""

    def advance(
        self, prediction: Tensor, call: int, latent: Tensor, generators: Sequence[torch.Generator] | None = None
    ) -> Tensor:
        """The latent (B, f, C, h, w) after a call."""
        if not isinstance(self.scheduler, CogVideoXDPMScheduler):
            return super().advance(prediction, call, latent, generators).to(latent.dtype)
        owners, time = list(generators) if generators else None, self.times[call]
        clean, before = self.scheduler.model_outputs
        after, clean = self.scheduler.step(prediction, clean, time, before, latent, generator=owners)
        self.scheduler.model_outputs = (clean, time)
        return after.to(latent.dtype)


class CogVideoX(Clips):
    """One T5; the 2B has fixed positions, the 5B rotary ones. Latent frames hold four frames, the first one alone."""

    PIPELINE, MODEL = CogVideoXPipeline, CogVideoXTransformer3DModel
    SCHEDULER, TEXTS = CogVideoXDDIMScheduler, {"text_encoder": t5}
    SOLVER = CogVideoXSolver
    READERS = ("patch_embed.text_proj.weight",)
    ENDS = ("time_embedding.", "norm_final.", "norm_out.", "proj_out.")

    def __init__(self, name: str, settings: Settings, pipeline: CogVideoXPipeline, device: str = "cpu") -> None:
        super().__init__(name, settings, pipeline, device)
        config = self.net.config
        if config.patch_size_t is not None:
            raise ValueError(f"{name}: CogVideoX 1.5 joins latent frames in patches, which is not supported; use 1.0")
        if not config.use_rotary_positional_embeddings and self.texts.length != config.max_text_seq_length:
            raise ValueError(f"{name}: text_length must be {config.max_text_seq_length}: its positions begin there")
        if self.vae.dtype != self.net.dtype:
            self.vae.to(self.net.dtype)  # unlike SDXL's it runs in half precision, whatever its force_upcast says
        if isinstance(self.scheduler, CogVideoXDPMScheduler):
            self.scheduler.model_outputs = (None, None)  # the clean latent and time before, which its caller must keep

    @classmethod
    def load_autoencoder(cls, folder: Path | str) -> nn.Module:
        """The world's autoencoder of pictures, applied to each frame."""
        return FrameAutoencoder.of(AutoencoderTiny.from_pretrained(folder)).eval().requires_grad_(False)

    def _find_sites(self) -> dict[Site, Tap]:
        """The address table of the blocks."""
        return sites(self.net, self.texts.limit(self.FOLLOWED))

    def _text_length(self, net: Any) -> int:
        """Tokens of the text stream."""
        return self.settings.text_length or net.config.max_text_seq_length

    def _own_size(self) -> tuple[int, int, int]:
        """The size that the network was trained at."""
        config = self.net.config
        return config.sample_frames, config.sample_height * self.factor, config.sample_width * self.factor

    def _check_size(self) -> None:
        """ValueError for a size that the network cannot draw: with learned positions, any but its own."""
        super()._check_size()
        size, own = self.settings.size, self._own_size()[1:]
        if self.net.config.use_learned_positional_embeddings and size not in (None, own):
            raise ValueError(f"{self.name}: size must be {own[0]} x {own[1]}: its positions are learned, got {size}")

    def scaled(self, latent: Tensor) -> Tensor:
        """Latents (B, C, f, h, w) of unit variance."""
        return latent * self.vae.config.scaling_factor

    def unscaled(self, latent: Tensor) -> Tensor:
        """Latents (B, C, f, h, w) of the autoencoder's variance."""
        return latent / self.vae.config.scaling_factor

    def _embed_prompts(self, prompts: list[str]) -> dict[str, Tensor]:
        embeds, _ = self.pipeline.encode_prompt(
            prompts, do_classifier_free_guidance=False, max_sequence_length=self.texts.length, device=self.device
        )
        return {"embeds": embeds}

    def denoise(self, latent: Tensor, time: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
        """One call of the transformer: latents (B, f, C, h, w) at times (B,) to v of the same shape.

        In float32, because guidance and the sampler are.
        """
        return self.net(
            latent,
            encoder_hidden_states=tensors["embeds"],
            timestep=time,
            image_rotary_emb=self._rotary(latent),
            return_dict=False,
        )[0].float()

    def _rotary(self, latent: Tensor) -> tuple[Tensor, Tensor] | None:
        if not self.net.config.use_rotary_positional_embeddings:
            return None
        frames, (height, width) = latent.shape[1], (side * self.factor for side in latent.shape[-2:])
        return self.pipeline._prepare_rotary_positional_embeddings(height, width, frames, latent.device)
