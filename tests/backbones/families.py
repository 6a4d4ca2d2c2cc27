"""One tiny random backbone per family and variant: how it is built, and how its own pipeline is called."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import AutoencoderDC, AutoencoderKL, AutoencoderKLCogVideoX, AutoencoderKLWan, AutoencoderTiny
from torch import Tensor, nn

from stages.backbones.cogvideox import CogVideoX
from stages.backbones.core.base import Settings
from stages.backbones.core.latent import Latent
from stages.backbones.cross_dit import PixArt, Sana
from stages.backbones.dit import DiT
from stages.backbones.mmdit import SD3, Flux
from stages.backbones.unet import UNet, UNetXL
from stages.backbones.wan import Wan
from stages.worlds.words import LENGTH, make_tokenizer

CLIP = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "projection_dim": 8}
T5 = {"d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2, "feed_forward_proj": "gated-gelu"}
GEMMA = {
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 4,
}
UNET = {
    "sample_size": 4,
    "block_out_channels": [8, 16],
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
    "layers_per_block": 1,
    "cross_attention_dim": 8,
    "attention_head_dim": 2,
    "norm_num_groups": 4,
}
XL = {"addition_embed_type": "text_time", "addition_time_embed_dim": 4, "projection_class_embeddings_input_dim": 32}
STABLE = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "steps_offset": 1,
}
JOINT = {"num_attention_heads": 2, "attention_head_dim": 8, "pooled_projection_dim": 8, "joint_attention_dim": 8}
FLUX = JOINT | {"in_channels": 16, "num_layers": 1, "num_single_layers": 2, "axes_dims_rope": [2, 2, 4]}
SD3_NET = JOINT | {
    "sample_size": 4,
    "in_channels": 4,
    "out_channels": 4,
    "num_layers": 2,
    "joint_attention_dim": 16,
    "caption_projection_dim": 16,
    "pooled_projection_dim": 16,
    "pos_embed_max_size": 4,
}
PATCHED = {"num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 2, "in_channels": 4}
PIXART = PATCHED | {"sample_size": 4, "cross_attention_dim": 16, "caption_channels": 8}
SANA = PATCHED | {
    "sample_size": 8,
    "out_channels": 4,
    "num_cross_attention_heads": 2,
    "cross_attention_head_dim": 8,
    "cross_attention_dim": 16,
    "caption_channels": 8,
}
SANA_FLOW = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0}
COGVIDEOX = {
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "in_channels": 4,
    "out_channels": 4,
    "time_embed_dim": 4,
    "text_embed_dim": 8,
    "num_layers": 2,
    "sample_width": 4,
    "sample_height": 2,
    "sample_frames": 9,
    "max_text_seq_length": LENGTH,
}
WAN = {
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "in_channels": 16,
    "out_channels": 16,
    "text_dim": 8,
    "freq_dim": 16,
    "ffn_dim": 16,
    "num_layers": 2,
}
ZERO_SNR = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}


def guided(pipe: Any, prompts: list[str], latents: Tensor, guidance: float) -> Tensor:
    """What most pipelines call it."""
    pipe.set_progress_bar_config(disable=True)
    return pipe(prompts, latents=latents, num_inference_steps=4, guidance_scale=guidance, output_type="pt").images


def ancestral(pipe: Any, prompts: list[str], latents: Tensor, guidance: float) -> Tensor:
    """With the noise of a stochastic scheduler owned by one generator per picture."""
    pipe.set_progress_bar_config(disable=True)
    call = {"num_inference_steps": 4, "guidance_scale": guidance, "output_type": "pt"}
    return pipe(prompts, generator=owners(latents), **call).images


def true_guidance(pipe: Any, prompts: list[str], latents: Tensor, guidance: float) -> Tensor:
    """Flux: latents are packed, and guidance with an empty prompt is called true."""
    pipe.set_progress_bar_config(disable=True)
    packed = nn.functional.pixel_unshuffle(latents, 2).flatten(2).transpose(1, 2)
    call = {"latents": packed, "num_inference_steps": 4, "max_sequence_length": LENGTH, "output_type": "pt"}
    size = {"height": 8, "width": 8}
    return pipe(prompts, negative_prompt="", true_cfg_scale=guidance, **size, **call).images


def told(pipe: Any, prompts: list[str], latents: Tensor, guidance: float) -> Tensor:
    """Flux dev: guidance is an input of the network."""
    pipe.set_progress_bar_config(disable=True)
    packed = nn.functional.pixel_unshuffle(latents, 2).flatten(2).transpose(1, 2)
    call = {"latents": packed, "num_inference_steps": 4, "max_sequence_length": LENGTH, "output_type": "pt"}
    return pipe(prompts, guidance_scale=guidance, height=8, width=8, **call).images


def long_text(pipe: Any, prompts: list[str], latents: Tensor, guidance: float) -> Tensor:
    """With as many tokens as the settings say."""
    pipe.set_progress_bar_config(disable=True)
    call = {"latents": latents, "num_inference_steps": 4, "guidance_scale": guidance, "output_type": "pt"}
    return pipe(prompts, max_sequence_length=LENGTH, **call).images


def unbinned(pipe: Any, prompts: list[str], latents: Tensor, guidance: float) -> Tensor:
    """At the size asked for."""
    pipe.set_progress_bar_config(disable=True)
    call = {"latents": latents, "num_inference_steps": 4, "guidance_scale": guidance, "output_type": "pt"}
    fixed = {"use_resolution_binning": False, "clean_caption": False}
    return pipe(prompts, max_sequence_length=LENGTH, **fixed, **call).images


def classes(pipe: Any, prompts: list[str], latents: Tensor, guidance: float) -> Tensor:
    """DiT: by class names and generators."""
    pipe.set_progress_bar_config(disable=True)
    ids = pipe.get_label_ids([prompt.removeprefix("a ") for prompt in prompts])
    return pipe(ids, guidance, owners(latents), num_inference_steps=4, output_type="pt").images


def moving(pipe: Any, prompts: list[str], latents: Tensor, guidance: float) -> Tensor:
    """CogVideoX at its own size; a solver that draws noise does so from one generator per clip."""
    pipe.set_progress_bar_config(disable=True)
    call = {"num_inference_steps": 4, "guidance_scale": guidance, "output_type": "pt"}
    return pipe(prompts, generator=owners(latents), max_sequence_length=LENGTH, **call).frames


def sized_clips(pipe: Any, prompts: list[str], latents: Tensor, guidance: float) -> Tensor:
    """Wan at 5 frames of 16 x 32."""
    pipe.set_progress_bar_config(disable=True)
    call = {"num_inference_steps": 4, "guidance_scale": guidance, "output_type": "pt", "max_sequence_length": LENGTH}
    return pipe(prompts, height=16, width=32, num_frames=5, generator=owners(latents), **call).frames


def owners(latents: Tensor) -> list[torch.Generator]:
    """The generators of SEEDS."""
    return [torch.Generator().manual_seed(seed) for seed in SEEDS[: len(latents)]]


PROMPTS = ["a red circle", "a blue square"]
SEEDS = (3, 4)


@dataclass(frozen=True)
class Family:
    """A tiny backbone, and the call of the unmodified pipeline that its sampling must equal."""

    cls: type[Latent]
    build: dict[str, Any]
    call: Callable[[Any, list[str], Tensor, float], Tensor] = guided
    settings: dict[str, Any] = field(default_factory=lambda: {"text_length": LENGTH})

    def make(self, full_autoencoder: bool = False, **settings: Any) -> Latent:
        """The backbone, every weight of it moved so that all layers matter."""
        chosen = Settings(
            **{
                "path": "none",
                "family": "tiny",
                "steps": 4,
                "guidance": 3.0,
                "batch": 4,
                "pool": 2,
                "build": self.build,
            }
            | self.settings
            | settings
        )
        made = self.cls.create("tiny", chosen, make_tokenizer(), autoencoder(self.cls, full_autoencoder), seed=0)
        generator = torch.Generator().manual_seed(1)
        for part, share in ((made.net, 0.1), (made.vae, 0.1 * (self.cls is not Sana))):
            for parameter in part.parameters():
                parameter.data += share * torch.randn(parameter.shape, generator=generator)
        return made


def autoencoder(cls: type[Latent], full: bool = False) -> nn.Module:
    """A random one of two levels, the tiny kind unless `full`; Sana's pipeline asks for its own and for 32 pixels."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        if cls is Sana:
            widths, layers = (4, 8, 8), (1, 1, 1)
            kinds = {"encoder_block_types": "ResBlock", "decoder_block_types": "ResBlock", "latent_channels": 4}
            qkv = {"encoder_qkv_multiscales": ((), (), ()), "decoder_qkv_multiscales": ((), (), ())}
            sizes = {"encoder_block_out_channels": widths, "decoder_block_out_channels": widths}
            depth = {"encoder_layers_per_block": layers, "decoder_layers_per_block": layers}
            return AutoencoderDC(**kinds, **qkv, **sizes, **depth, attention_head_dim=2)
        if cls is CogVideoX:
            kinds = {f"{way.lower()}_block_types": (f"CogVideoX{way}Block3D",) * 4 for way in ("Down", "Up")}
            sizes = {"block_out_channels": (8,) * 4, "layers_per_block": 1, "latent_channels": 4}
            return AutoencoderKLCogVideoX(**kinds, **sizes, norm_num_groups=2, sample_height=16, sample_width=32)
        if cls is Wan:
            return AutoencoderKLWan(base_dim=3, dim_mult=[1] * 4, num_res_blocks=1)
        if full:
            blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
            return AutoencoderKL(**blocks, block_out_channels=(8, 8), norm_num_groups=4, latent_channels=4)
        sizes = {"encoder_block_out_channels": (8, 8), "decoder_block_out_channels": (8, 8)}
        counts = {"num_encoder_blocks": (1, 1), "num_decoder_blocks": (1, 1)}
        return AutoencoderTiny(**sizes, **counts, latent_channels=4, scaling_factor=0.7, shift_factor=0.1)


def flux(net: dict[str, Any], scheduler: dict[str, Any]) -> Family:
    """Flux at 8 pixels."""
    build = {"transformer": FLUX | net, "text_encoder": CLIP, "text_encoder_2": T5, "scheduler": scheduler}
    call = told if net.get("guidance_embeds") else true_guidance
    return Family(Flux, build, call, settings={"text_length": LENGTH, "size": (8, 8)})


def sd3(net: dict[str, Any], scheduler: dict[str, Any]) -> Family:
    """Stable Diffusion 3."""
    texts = {"text_encoder": CLIP, "text_encoder_2": CLIP, "text_encoder_3": T5 | {"d_model": 16}}
    return Family(SD3, {"transformer": SD3_NET | net, "scheduler": scheduler} | texts, long_text)


def xl(scheduler: dict[str, Any], call: Any = guided) -> Family:
    """SDXL."""
    texts = {"text_encoder": CLIP, "text_encoder_2": CLIP}
    return Family(UNetXL, {"unet": UNET | XL | {"cross_attention_dim": 16}, "scheduler": scheduler} | texts, call)


def cogvideox(net: dict[str, Any], scheduler: dict[str, Any]) -> Family:
    """CogVideoX at 9 frames of 16 x 32."""
    predicts = {"prediction_type": "v_prediction", "clip_sample": False}
    build = {"transformer": COGVIDEOX | net, "text_encoder": T5, "scheduler": predicts | ZERO_SNR | scheduler}
    return Family(CogVideoX, build, moving)


def wan(net: dict[str, Any], scheduler: dict[str, Any]) -> Family:
    """Wan at 5 frames of 16 x 32."""
    build = {"transformer": WAN | net, "text_encoder": T5, "scheduler": scheduler}
    return Family(Wan, build, sized_clips, settings={"text_length": LENGTH, "size": (16, 32), "frames": 5})


DIT = PATCHED | {"sample_size": 4, "num_embeds_ada_norm": 1000}
FAMILIES = {
    "unet": Family(UNet, {"unet": UNET, "text_encoder": CLIP, "scheduler": STABLE}),
    "unet-v-zero-snr": Family(
        UNet,
        {"unet": UNET, "text_encoder": CLIP, "scheduler": STABLE | ZERO_SNR | {"prediction_type": "v_prediction"}},
    ),
    "unet-euler": Family(
        UNet,
        {
            "unet": UNET,
            "text_encoder": CLIP,
            "scheduler": {"_class_name": "EulerDiscreteScheduler", "steps_offset": 1},
        },
    ),
    "xl": xl(STABLE),
    "xl-turbo": xl({"_class_name": "EulerAncestralDiscreteScheduler", "timestep_spacing": "trailing"}, ancestral),
    "sd3": sd3({}, {"shift": 3.0}),
    "sd35": sd3({"dual_attention_layers": [0], "qk_norm": "rms_norm"}, {"use_dynamic_shifting": True}),
    "flux-dev": flux({"guidance_embeds": True}, {"use_dynamic_shifting": True}),
    "flux-schnell": flux({}, {"shift": 1.0}),
    "dit": Family(DiT, {"transformer": DIT | {"out_channels": 8}, "scheduler": {"clip_sample": False}}, classes),
    "pixart": Family(
        PixArt, {"transformer": PIXART | {"out_channels": 8}, "text_encoder": T5, "scheduler": {}}, unbinned
    ),
    "pixart-ddim": Family(
        PixArt,
        {
            "transformer": PIXART | {"out_channels": 4},
            "text_encoder": T5,
            "scheduler": {"_class_name": "DDIMScheduler", "clip_sample": False},
        },
        unbinned,
    ),
    "sana": Family(Sana, {"transformer": SANA, "text_encoder": GEMMA, "scheduler": SANA_FLOW}, unbinned),
    "sana-euler": Family(
        Sana,
        {
            "transformer": SANA,
            "text_encoder": GEMMA,
            "scheduler": {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0},
        },
        unbinned,
    ),
    "cogvideox-2b": cogvideox({}, {"snr_shift_scale": 3.0}),
    "cogvideox-5b": cogvideox(
        {"use_rotary_positional_embeddings": True}, {"_class_name": "CogVideoXDPMScheduler", "snr_shift_scale": 1.0}
    ),
    "wan": wan({}, SANA_FLOW),
    "wan-euler": wan({"cross_attn_norm": False}, {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}),
}
