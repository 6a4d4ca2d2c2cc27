"""The UNet family: Stable Diffusion 1 and 2 in diffusers' own format."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from stages.backbones.base import Settings
from stages.backbones.diffusion import Diffusion
from stages.sites import Site, Tap


def sites(net: UNet2DConditionModel) -> dict[Site, Tap]:
    """The address table, blocks in order of execution: down, mid, up."""
    table: dict[Site, Tap] = {}
    for index, path in enumerate(_transformer_blocks(net)):
        for norm, kind, name in (
            ("norm1", "norm", "attn1"),
            ("norm2", "norm_cross", "attn2"),
            ("norm3", "norm_ff", "ff"),
        ):
            table[Site(index, kind)] = Tap(f"{path}.{norm}")
            layer = {"attn1": "attn", "attn2": "cross_attn", "ff": "ff"}[name]
            if layer == "ff":
                table[Site(index, "ff", "hidden")] = Tap(f"{path}.ff.net.0")
            else:
                table[Site(index, layer, "heads")] = Tap(f"{path}.{name}.to_out.0", "input")
            table[Site(index, layer)] = Tap(f"{path}.{name}")
        table[Site(index, "block")] = Tap(path)
    return table


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


class UNet(Diffusion):
    """Stable Diffusion with one text encoder; predicts eps or v, latents (B, C, h, w)."""

    def __init__(self, name: str, settings: Settings, pipeline: StableDiffusionPipeline) -> None:
        super().__init__(name, settings)
        self.net, self.vae, self.scheduler = pipeline.unet, pipeline.vae, pipeline.scheduler
        self.text_encoder, self.tokenizer = pipeline.text_encoder, pipeline.tokenizer
        self.sites = sites(self.net)
        if settings.gradient_checkpointing:
            self.net.enable_gradient_checkpointing()
        self.freeze()

    @classmethod
    def load(cls, name: str, settings: Settings, device: str = "cpu") -> UNet:
        """The pipeline at settings.path, each part in diffusers' own format."""
        from stages.backbones.checkpoints import load_pipeline

        return cls(name, settings, load_pipeline(StableDiffusionPipeline, settings, device))

    @classmethod
    def create(cls, name: str, settings: Settings, tokenizer: object, vae: nn.Module, seed: int) -> UNet:
        """A network with random weights, as settings.build describes it."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            net = UNet2DConditionModel(**settings.build["unet"])
            length = tokenizer.model_max_length
            text = CLIPTextConfig(
                **settings.build["text_encoder"],
                vocab_size=len(tokenizer),
                max_position_embeddings=length,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
            encoder = CLIPTextModel(text)
        scheduler = DDIMScheduler(**settings.build["scheduler"])
        parts = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
        pipeline = StableDiffusionPipeline(vae, encoder, tokenizer, net, scheduler, **parts)
        return cls(name, settings, pipeline)

    def save(self, folder: Path) -> None:
        """Writes a folder that the unmodified StableDiffusionPipeline loads."""
        parts = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
        pipeline = StableDiffusionPipeline(
            self.vae, self.text_encoder, self.tokenizer, self.net, self.scheduler, **parts
        )
        pipeline.save_pretrained(folder)

    def modules(self) -> Mapping[str, nn.Module]:
        """The network, the text encoder and the autoencoder."""
        return {"net": self.net, "text_encoder": self.text_encoder, "vae": self.vae}

    def _encode(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        tokens = self.tokenizer(
            list(prompts),
            padding="max_length",
            max_length=self.tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        )
        mask = None
        if getattr(self.text_encoder.config, "use_attention_mask", None):
            mask = tokens.attention_mask.to(self.device)
        return {"embeds": self.text_encoder(tokens.input_ids.to(self.device), attention_mask=mask)[0]}

    def denoise(self, latent: Tensor, time: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
        """One call of the UNet."""
        return self.net(latent, time, tensors["embeds"], return_dict=False)[0]

    def timesteps(self, scheduler: object, steps: int) -> Tensor:
        """The scheduler's timesteps, integers in 0..999."""
        scheduler.set_timesteps(steps)
        return scheduler.timesteps

    def latent_shape(self) -> tuple[int, ...]:
        """(C, h, w) at the settings' size, or at the checkpoint's own."""
        height, width = self.settings.size or (self.net.config.sample_size * self.factor,) * 2
        return self.net.config.in_channels, height // self.factor, width // self.factor

    @property
    def factor(self) -> int:
        """Pixels per latent, along one side."""
        return 2 ** (
            len(getattr(self.vae.config, "block_out_channels", None) or self.vae.config.encoder_block_out_channels) - 1
        )

    def decode(self, latent: Tensor) -> Tensor:
        """Latents to images (B, 3, H, W) in [0, 1]."""
        images = self.vae.decode(latent / self.vae.config.scaling_factor, return_dict=False)[0]
        return (images / 2 + 0.5).clamp(0, 1)

    def embed(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] to latents; the mean, where the autoencoder has a distribution."""
        encoded = self.vae.encode(images * 2 - 1)
        latent = encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mean
        return latent * self.vae.config.scaling_factor

    def noised(self, clean: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        """The forward process at integer times (B,)."""
        return self.scheduler.add_noise(clean, noise, time)

    def target(self, clean: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        """What `predict` should return for a noised latent: eps, or v."""
        if self.scheduler.config.prediction_type == "v_prediction":
            return self.scheduler.get_velocity(clean, noise, time)
        return noise

    def random_times(self, n: int, generator: torch.Generator) -> Tensor:
        """Uniform training times (n,)."""
        return torch.randint(self.scheduler.config.num_train_timesteps, (n,), generator=generator)
