"""Wan 2.1 (arXiv 2503.20314): video tokens that attend to a long text, a flow, one pass of the network per role."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence

import torch
from diffusers import UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel
from diffusers.pipelines.wan.pipeline_wan import prompt_clean
from torch import Tensor

from stages.backbones.core.clips import Clips
from stages.backbones.core.guidance import Roles
from stages.backbones.core.pipeline_texts import PipelineTexts
from stages.backbones.core.settings import Settings
from stages.backbones.text.encoders import umt5
from stages.control.sites import Site, Tap, site_table
from stages.control.state import State

BLOCK = {
    "norm": Tap("norm1"),
    "attn.heads": Tap("attn1.to_out.0", "input"),
    "attn": Tap("attn1"),
    "norm_cross": Tap("norm2"),
    "cross_attn.heads": Tap("attn2.to_out.0", "input"),
    "cross_attn": Tap("attn2"),
    "norm_ff": Tap("norm3"),
    "ff.hidden": Tap("ffn.net.0"),
    "ff": Tap("ffn"),
    "block": Tap(""),
}
CALL = inspect.signature(WanPipeline.__call__).parameters


class CleanedTexts(PipelineTexts):
    """The pipeline mends broken characters and white space in prompts."""

    def cleaned(self, prompt: str) -> str:
        """After the pipeline's own mending."""
        return prompt_clean(prompt)


class Wan(Clips):
    """Wan 2.1's text to video; a batch never mixes roles, so an edit sees one role at a time."""

    ROLES = ("cond", "uncond")
    PIPELINE, MODEL = WanPipeline, WanTransformer3DModel
    SCHEDULER, TEXTS = UniPCMultistepScheduler, {"text_encoder": umt5}
    WITHOUT = {"transformer_2": None}
    ENDS = ("condition_embedder.time", "scale_shift_table", "proj_out.")
    TEXT_SIDE, TEXT_LENGTH = CleanedTexts, CALL["max_sequence_length"].default
    LATENTS = torch.float32  # as its pipeline keeps them, whatever the network's precision

    def __init__(self, name: str, settings: Settings, pipeline: WanPipeline, device: str = "cpu") -> None:
        super().__init__(name, settings, pipeline, device)
        if pipeline.config.boundary_ratio is not None or pipeline.config.expand_timesteps:
            raise ValueError(f"{name}: Wan 2.2, of two networks or with a time per token, is not supported; use 2.1")
        self.vae.float()  # as its pipeline asks for, whatever the network's precision

    def _find_sites(self) -> dict[Site, Tap]:
        """The address table of the blocks."""
        return site_table(self.net, [f"blocks.{i}" for i in range(len(self.net.blocks))], BLOCK)

    def _own_size(self) -> tuple[int, int, int]:
        """The pipeline's own defaults."""
        return tuple(CALL[name].default for name in ("num_frames", "height", "width"))

    def scaled(self, latent: Tensor) -> Tensor:
        """Latents (B, C, f, h, w) with each channel of mean 0 and variance 1."""
        mean, spread = self._statistics(latent)
        return (latent - mean) / spread

    def unscaled(self, latent: Tensor) -> Tensor:
        """Latents (B, C, f, h, w) with the autoencoder's mean and variance."""
        mean, spread = self._statistics(latent)
        return latent * spread + mean

    def _statistics(self, latent: Tensor) -> tuple[Tensor, ...]:
        config = self.vae.config
        return tuple(latent.new_tensor(v).view(1, -1, 1, 1, 1) for v in (config.latents_mean, config.latents_std))

    def _noise(self, owners: Sequence[torch.Generator], shape: tuple[int, ...] | None = None) -> Tensor:
        frames, channels, *size = shape or self.latent_shape()
        return super()._noise(owners, (channels, frames, *size)).transpose(1, 2)  # drawn in its pipeline's order

    def _embed_prompts(self, prompts: list[str]) -> dict[str, Tensor]:
        embeds, _ = self.pipeline.encode_prompt(
            prompts, do_classifier_free_guidance=False, max_sequence_length=self.texts.length, device=self.device
        )
        return {"embeds": embeds}

    def denoise(self, latent: Tensor, time: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
        """One call of the transformer: latents (B, f, C, h, w) at times (B,) to the velocity of that shape."""
        dtype = self.net.dtype
        clip, embeds = latent.transpose(1, 2).to(dtype), tensors["embeds"].to(dtype)
        return self.net(clip, timestep=time, encoder_hidden_states=embeds, return_dict=False)[0].transpose(1, 2)

    def _guided(self, state: State, roles: Roles, factor: float) -> Tensor:
        """One call of the network per role."""
        parts, run = {}, roles.get("cond")
        for role, condition in roles.items():
            with self.attached.at(state.step, {role: slice(0, len(state))}, condition=run):
                parts[role] = self.denoise(state.input, state.time, condition.tensors)
        with self.attached.at(state.step, {}, condition=run):
            return self.attached.combine(parts, factor)
