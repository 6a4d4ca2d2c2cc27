"""Two streams in joint attention: Stable Diffusion 3 and 3.5, Flux dev and schnell. Both predict a flow's velocity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import (
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from diffusers.pipelines.flux.pipeline_flux import calculate_shift
from torch import Tensor
from torch.nn import functional

from stages.backbones.core.guidance import TOLD, Guidance
from stages.backbones.core.latent import Latent
from stages.backbones.text.encoders import clip, clip_projected, t5
from stages.control.sites import Site, Tap, site_table

NORMS = {"norm": Tap("norm1.linear"), "norm@text": Tap("norm1_context.linear")}
HEADS = {"attn.heads": Tap("attn.to_out.0", "input"), "attn.heads@text": Tap("attn.to_add_out", "input")}
REST = {
    "attn": Tap("attn", item=0),
    "attn@text": Tap("attn", item=1),
    "dual_attn.heads": Tap("attn2.to_out.0", "input"),
    "dual_attn": Tap("attn2"),
    "norm_ff": Tap("norm2"),
    "ff.hidden": Tap("ff.net.0"),
    "ff": Tap("ff"),
    "norm_ff@text": Tap("norm2_context"),
    "ff.hidden@text": Tap("ff_context.net.0"),
    "ff@text": Tap("ff_context"),
    "block@text": Tap("", item=0),
    "block": Tap("", item=1),
}


def sd3_sites(net: SD3Transformer2DModel) -> dict[Site, Tap]:
    """Joint blocks; the last one gives up its text stream after its keys and values."""
    blocks = [f"transformer_blocks.{i}" for i in range(len(net.transformer_blocks))]
    table = site_table(net, blocks, NORMS | dict(reversed(HEADS.items())) | REST)
    dead = {Site(len(blocks) - 1, kind, stream="text") for kind in ("attn", "block")}
    return {site: tap for site, tap in table.items() if site not in dead}


def flux_sites(net: FluxTransformer2DModel, text: int) -> dict[Site, Tap]:
    """Joint blocks, then fused ones on one sequence of `text` tokens before the image; the last text stream is dead."""
    joint = [f"transformer_blocks.{i}" for i in range(len(net.transformer_blocks))]
    single = [f"single_transformer_blocks.{i}" for i in range(len(net.single_transformer_blocks))]
    fused = {"norm": Tap("norm.linear")}
    for address, module in {"ff.hidden": "act_mlp", "attn.heads": "attn", "attn": "attn"}.items():
        fused |= {address: Tap(module, tokens=(text, None)), f"{address}@text": Tap(module, tokens=(0, text))}
    fused |= {"block@text": Tap("", item=0), "block": Tap("", item=1)}
    table = site_table(net, joint, NORMS | HEADS | REST) | site_table(net, single, fused, first=len(joint))
    last = len(joint) + len(single) - 1
    return {site: tap for site, tap in table.items() if (site.block, site.stream) != (last, "text")}


class MMDiT(Latent):
    """A flow on two streams, whose schedule may be shifted by the number of image tokens."""

    SCHEDULER = FlowMatchEulerDiscreteScheduler
    PATCH = 2  # latents per image token, along one side
    READERS = ("context_embedder.weight", "time_text_embed.text_embedder.linear_1.weight")
    ENDS = ("time_text_embed.", "norm_out.", "proj_out.")

    @property
    def offset(self) -> float:
        """The autoencoder's shift."""
        return self.vae.config.shift_factor or 0.0

    def shift(self) -> float:
        """mu of a dynamic shift: linear in the number of image tokens."""
        config, (*_, height, width) = self.scheduler.config, self.latent_shape()
        sizes = (config.base_image_seq_len, config.max_image_seq_len, config.base_shift, config.max_shift)
        return calculate_shift((height // self.PATCH) * (width // self.PATCH), *sizes)


class SD3(MMDiT):
    """Stable Diffusion 3 and 3.5: two CLIPs and a T5, which may be absent."""

    PIPELINE, MODEL = StableDiffusion3Pipeline, SD3Transformer2DModel
    TEXTS = {"text_encoder": clip_projected, "text_encoder_2": clip_projected, "text_encoder_3": t5}
    OPTIONAL = ("text_encoder_3",)
    TEXT_LENGTH = 256
    TEXT_FIRST = False

    def _find_sites(self) -> dict[Site, Tap]:
        """The address table of the joint blocks."""
        return sd3_sites(self.net)

    def _text_starts(self, pipeline: DiffusionPipeline) -> dict[str, int]:
        """Both CLIPs' tokens, side by side in the channels and named after the first; then those of T5, if there."""
        return {"text_encoder": 0, "text_encoder_3": pipeline.tokenizer.model_max_length}

    def _embed_prompts(self, prompts: list[str]) -> dict[str, Tensor]:
        embeds, _, pooled, _ = self.pipeline.encode_prompt(
            *(prompts,) * 3,
            device=self.device,
            do_classifier_free_guidance=False,
            max_sequence_length=self.texts.length,
        )
        return {"embeds": embeds, "pooled": pooled}

    def _times(self, scheduler: Any, steps: int) -> Tensor:
        """Sets the scheduler to `steps` steps and returns the shifted times (T,), 1000 sigma."""
        scheduler.set_timesteps(steps, mu=self.shift() if scheduler.config.use_dynamic_shifting else None)
        return scheduler.timesteps

    def denoise(self, latent: Tensor, time: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
        """One call of the transformer on latents (B, C, h, w) at times (B,), 1000 sigma; a velocity of that shape."""
        return self.net(latent, tensors["embeds"], tensors["pooled"], time, return_dict=False)[0]


class Flux(MMDiT):
    """Flux: CLIP's pooled output and T5's tokens; two by two latents make one image token.

    A guidance-distilled network (dev; arXiv 2210.03142) is told the guidance in one pass, and
    settings.training_guidance in `predict`, where methods train it. Others are guided like any family.
    """

    PIPELINE, MODEL = FluxPipeline, FluxTransformer2DModel
    FOLLOWED, TEXT_LENGTH = "text_encoder_2", 512
    PATCH = 2
    TEXTS = {"text_encoder": clip, "text_encoder_2": t5}
    WITHOUT = {"image_encoder": None, "feature_extractor": None}

    def _find_sites(self) -> dict[Site, Tap]:
        """The address table of joint and fused blocks."""
        return flux_sites(self.net, self.texts.limit(self.FOLLOWED))

    def _embed_prompts(self, prompts: list[str]) -> dict[str, Tensor]:
        embeds, pooled, _ = self.pipeline.encode_prompt(
            prompts, device=self.device, max_sequence_length=self.texts.length
        )
        return {"embeds": embeds, "pooled": pooled}

    def _times(self, scheduler: Any, steps: int) -> Tensor:
        """Sets the scheduler and returns the shifted times (T,), 1000 sigma, of sigmas from 1 to 1 / steps."""
        scheduler.set_timesteps(sigmas=torch.linspace(1, 1 / steps, steps).tolist(), mu=self.shift())
        return scheduler.timesteps

    def latent_shape(self) -> tuple[int, ...]:
        """(C, h, w), four channels of a token to one of the latent."""
        side = self.pipeline.default_sample_size * self.factor
        height, width = (length // self.factor for length in self.settings.size or (side, side))
        return self.net.config.in_channels // 4, height, width

    def _guidance(self, asked: float) -> Guidance:
        """Told, if the network was distilled to be."""
        return Guidance(told=asked) if self.net.config.guidance_embeds else super()._guidance(asked)

    def denoise(self, latent: Tensor, time: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
        """One call of the transformer on latents (B, C, h, w), packed for it, at times (B,), 1000 sigma."""
        size, (height, width) = len(latent), (side // 2 for side in latent.shape[-2:])
        guidance = None
        if self.net.config.guidance_embeds:
            untold = torch.full((size,), self.settings.training_guidance, device=latent.device)
            guidance = tensors.get(TOLD, untold)
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        places = torch.stack([torch.zeros_like(rows), rows, columns], -1).flatten(0, 1)  # (h w, 3)
        velocity = self.net(
            functional.pixel_unshuffle(latent, 2).flatten(2).transpose(1, 2),
            timestep=time.to(latent.dtype) / 1000,
            guidance=guidance,
            pooled_projections=tensors["pooled"],
            encoder_hidden_states=tensors["embeds"],
            txt_ids=latent.new_zeros(tensors["embeds"].shape[1], 3),
            img_ids=places.to(latent),
            return_dict=False,
        )[0]
        return functional.pixel_shuffle(velocity.transpose(1, 2).unflatten(2, (height, width)), 2)
