"""The UNet families: Stable Diffusion 1 and 2, and SDXL with its two text encoders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from diffusers import (
    DDIMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from torch import Tensor, nn

from stages.backbones.core.latent import Latent
from stages.backbones.text.encoders import clip, clip_projected
from stages.control.sites import Site, Tap, site_table

BLOCK = {
    "norm": Tap("norm1"),
    "attn.heads": Tap("attn1.to_out.0", "input"),
    "attn": Tap("attn1"),
    "norm_cross": Tap("norm2"),
    "cross_attn.heads": Tap("attn2.to_out.0", "input"),
    "cross_attn": Tap("attn2"),
    "norm_ff": Tap("norm3"),
    "ff.hidden": Tap("ff.net.0"),
    "ff": Tap("ff"),
    "block": Tap(""),
}


def sites(net: UNet2DConditionModel) -> dict[Site, Tap]:
    """The address table, blocks in order of execution: down, mid, up."""
    return site_table(net, _transformer_blocks(net), BLOCK)


def _transformer_blocks(net: UNet2DConditionModel) -> Iterator[str]:
    def inside(path: str, module: nn.Module) -> Iterator[str]:
        for j, attention in enumerate(getattr(module, "attentions", None) or []):
            for k in range(len(attention.transformer_blocks)):
                yield f"{path}.attentions.{j}.transformer_blocks.{k}"

    for i, block in enumerate(net.down_blocks):
        yield from inside(f"down_blocks.{i}", block)
    if net.mid_block is not None:
        yield from inside("mid_block", net.mid_block)
    for i, block in enumerate(net.up_blocks):
        yield from inside(f"up_blocks.{i}", block)


class UNet(Latent):
    """Stable Diffusion with one text encoder; predicts eps or v, latents (B, C, h, w)."""

    PIPELINE, MODEL, NET = StableDiffusionPipeline, UNet2DConditionModel, "unet"
    SCHEDULER, TEXTS = DDIMScheduler, {"text_encoder": clip}
    WITHOUT = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    ENDS = ("time_embedding.", "conv_norm_out.", "conv_out.")

    def _find_sites(self) -> dict[Site, Tap]:
        """The UNet's address table."""
        return sites(self.net)

    def skips(self) -> dict[str, int]:
        """The residual blocks on the way up: (B, C + skip, h, w) enters each, and C is what the one before put out."""
        before = self.net.config.block_out_channels[-1]
        found = {}
        for i, block in enumerate(self.net.up_blocks):
            for j, layer in enumerate(block.resnets):
                found[f"up_blocks.{i}.resnets.{j}"] = before
                before = layer.out_channels
        return found

    def _embed_prompts(self, prompts: list[str]) -> dict[str, Tensor]:
        return {"embeds": self.pipeline.encode_prompt(prompts, self.device, 1, False)[0]}

    def denoise(self, latent: Tensor, time: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
        """One call of the UNet: latents (B, C, h, w) at times (B,) to eps or v of the same shape."""
        return self.net(latent, time, tensors["embeds"], return_dict=False)[0]


class UNetXL(UNet):
    """SDXL: the UNet also reads the second encoder's pooled output, and sizes and crop as six numbers."""

    PIPELINE = StableDiffusionXLPipeline
    TEXTS = {"text_encoder": clip, "text_encoder_2": clip_projected}
    WITHOUT = {}

    def _embed_prompts(self, prompts: list[str]) -> dict[str, Tensor]:
        embeds, _, pooled, _ = self.pipeline.encode_prompt(
            prompts, device=self.device, do_classifier_free_guidance=False
        )
        if self.pipeline.config.force_zeros_for_empty_prompt:
            texts = torch.tensor([bool(prompt) for prompt in prompts], device=embeds.device)
            embeds, pooled = embeds * texts[:, None, None], pooled * texts[:, None]
        return {"embeds": embeds, "pooled": pooled}

    def denoise(self, latent: Tensor, time: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
        """One call of the UNet on latents (B, C, h, w), told the picture's own size, uncropped."""
        height, width = (side * self.factor for side in latent.shape[-2:])
        sizes = latent.new_tensor([[height, width, 0, 0, height, width]]).expand(len(latent), -1)
        added = {"text_embeds": tensors["pooled"], "time_ids": sizes}
        return self.net(latent, time, tensors["embeds"], added_cond_kwargs=added, return_dict=False)[0]
