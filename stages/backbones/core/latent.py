"""Denoisers in the latent space of an autoencoder, as diffusers keeps them: one pipeline of named parts."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar

import diffusers
import torch
from diffusers import AutoencoderTiny, DiffusionPipeline
from torch import Tensor, nn

from stages.backbones.core import forward_process as schedule
from stages.backbones.core.base import Condition, Settings, State
from stages.backbones.core.diffusion import Diffusion
from stages.backbones.core.finite import pictured
from stages.backbones.core.memory import at_work, divide, enable_checkpointing, stream_blocks
from stages.backbones.core.onednn import multiply_by_onednn
from stages.backbones.loading.checkpoints import (
    check_checkpoint,
    choose_scheduler,
    load_network,
    load_part,
    load_pipeline,
    options,
)
from stages.backbones.loading.folders import located
from stages.backbones.loading.one_file import load_one_file
from stages.control.sites import Site, Tap

CPU = torch.device("cpu")


class Latent(Diffusion):
    """A family is a pipeline class, its parts' classes, a site table, and the call of its network."""

    PIPELINE: ClassVar[type[DiffusionPipeline]]
    MODEL: ClassVar[type[nn.Module]]
    NET: ClassVar[str] = "transformer"  # the part that is the network
    SCHEDULER: ClassVar[type]  # of the world's own backbones; a checkpoint brings its own
    TEXTS: ClassVar[Mapping[str, Callable[[Mapping[str, Any], Any], nn.Module]]] = {}  # text encoders and their makers
    WITHOUT: ClassVar[Mapping[str, Any]] = {}  # parts of a checkpoint that are not loaded
    OPTIONAL: ClassVar[tuple[str, ...]] = ()  # text encoders that a checkpoint may be without

    def __init__(self, name: str, settings: Settings, pipeline: DiffusionPipeline, device: str = "cpu") -> None:
        super().__init__(name, settings)
        self.pipeline, self.home = pipeline, torch.device(device)
        self.net, self.vae, self.scheduler = getattr(pipeline, self.NET), pipeline.vae, pipeline.scheduler
        self.text_classes = {part: type(found) for part in self.TEXTS if (found := getattr(pipeline, part)) is not None}
        self.source: Settings | None = None  # where freed text encoders are read from again
        self.sites = self.find_sites()
        if self.vae.dtype == torch.float16 and getattr(self.vae.config, "force_upcast", False):
            self.vae.float()  # overflows in half precision
        divide(self.vae, settings.vae_tiling, settings.vae_slicing)
        for module in self.modules().values():
            multiply_by_onednn(module)
        if settings.gradient_checkpointing:
            enable_checkpointing(self)
        self._place()
        self.freeze()

    # what a family provides, beside `denoise`

    @abstractmethod
    def find_sites(self) -> dict[Site, Tap]:
        """The address table of the network."""

    @abstractmethod
    def _embed_prompts(self, prompts: list[str]) -> dict[str, Tensor]:
        """Prompts to tensors (B, ...), by the pipeline's own encoding."""

    # made, loaded, saved

    @classmethod
    def load(cls, name: str, settings: Settings, device: str = "cpu") -> Latent:
        """The pipeline at settings.path: a folder or repository in diffusers' own format, or one .safetensors file.

        FileNotFoundError or ValueError says in one line what lies there instead and what to do.
        """
        settings = located(settings)
        if Path(settings.path).is_file():
            pipeline = load_one_file(cls.PIPELINE, settings, options(settings)["dtype"], **cls.WITHOUT)
            return cls(name, settings, pipeline, device)
        needed = [cls.NET, "vae", "scheduler", *(part for part in cls.TEXTS if part not in cls.OPTIONAL)]
        check_checkpoint(settings, cls.PIPELINE, needed, cls.WITHOUT)
        net = {cls.NET: load_network(cls.MODEL, cls.NET, settings)}
        pipeline = load_pipeline(cls.PIPELINE, settings, "cpu", **net, **cls.WITHOUT)
        if settings.scheduler:
            pipeline.scheduler = choose_scheduler(settings.scheduler, pipeline.scheduler, name)
        made = cls(name, settings, pipeline, device)
        made.source = settings
        return made

    @classmethod
    def create(
        cls, name: str, settings: Settings, tokenizer: object, vae: nn.Module, seed: int, device: str = "cpu"
    ) -> Latent:
        """A network with random weights, as settings.build describes it; its scheduler may name a `_class_name`."""
        build = settings.build
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            parts: dict[str, Any] = {"vae": vae, cls.NET: cls.MODEL(**build[cls.NET])}
            for part, make in cls.TEXTS.items():
                parts[part] = make(build[part], tokenizer)
                parts[part.replace("text_encoder", "tokenizer")] = tokenizer
        config = dict(build.get("scheduler", {}))
        scheduler = getattr(diffusers, config.pop("_class_name", cls.SCHEDULER.__name__))
        parts["scheduler"] = scheduler(**config)
        return cls(name, settings, cls.assemble(settings, parts), device)

    @classmethod
    def assemble(cls, settings: Settings, parts: Mapping[str, Any]) -> DiffusionPipeline:
        """The pipeline of freshly made parts."""
        return cls.PIPELINE(**parts, **cls.WITHOUT)

    @classmethod
    def load_autoencoder(cls, folder: Path | str) -> nn.Module:
        """The world's autoencoder."""
        return AutoencoderTiny.from_pretrained(folder).eval().requires_grad_(False)

    def save(self, folder: Path) -> None:
        """Writes a folder that the unmodified pipeline class loads."""
        self.text_parts()
        self.pipeline.save_pretrained(folder)

    # the parts and where they are

    @property
    def device(self) -> torch.device:
        return self.home

    @property
    def text_encoder(self) -> nn.Module:
        """The first text encoder."""
        return self.text_parts()["text_encoder"]

    @property
    def tokenizer(self) -> Any:
        """The first text encoder's tokenizer."""
        return self.pipeline.tokenizer

    def modules(self) -> Mapping[str, nn.Module]:
        """The network, the text encoders that are loaded, and the autoencoder."""
        texts = {part: getattr(self.pipeline, part) for part in self.text_classes}
        return {"net": self.net, **{part: text for part, text in texts.items() if text is not None}, "vae": self.vae}

    def text_parts(self) -> dict[str, nn.Module]:
        """The text encoders by name, read again where they were freed."""
        for part, cls in self.text_classes.items():
            if getattr(self.pipeline, part) is None:
                module = load_part(cls, part, self.source).eval().requires_grad_(False)
                multiply_by_onednn(module)
                setattr(self.pipeline, part, module if self._waiting else module.to(self.home))
        return super().text_parts()

    def free_texts(self) -> None:
        """Drops the text encoders, if the settings ask for it, they can be read again, and nothing edits them."""
        if self.settings.free_text_encoder and self.source is not None and not self.text_swaps:
            for part in self.text_classes:
                setattr(self.pipeline, part, None)

    @property
    def _waiting(self) -> torch.device | None:
        return None if self.settings.offload == "none" else CPU

    def _place(self) -> None:
        for name, module in self.modules().items():
            if name == "net" and self.settings.offload == "blocks":
                stream_blocks(module, self.home, CPU)
            else:
                module.to(self.home if name == "net" or self._waiting is None else CPU)

    def _working(self, *modules: nn.Module, made: Mapping[str, Tensor] | None = None) -> AbstractContextManager[None]:
        return at_work(*modules, device=self.home, waiting=self._waiting, made=made)

    # prompts

    def tokenizers(self) -> Mapping[str, Any]:
        """The tokenizer of each text encoder, by the encoder's name."""
        return {part: getattr(self.pipeline, part.replace("text_encoder", "tokenizer")) for part in self.text_classes}

    def _encode(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        made: dict[str, Tensor] = {}
        with self._working(*self.text_parts().values(), made=made):
            made |= self._embed_prompts(list(prompts))
        return made

    def predict(self, state: State, condition: Condition, *, role: str = "cond") -> Tensor:
        """The prediction for every row of the state; `role` is what activation edits see."""
        self.free_texts()
        return super().predict(state, condition, role=role)

    def guided(self, state: State, conditions: Mapping[str, Condition], guidance: float) -> Tensor:
        """All roles in one call of the network, combined as uncond + g (cond - uncond)."""
        self.free_texts()
        return super().guided(state, conditions, guidance)

    # pictures

    @property
    def factor(self) -> int:
        """Pixels per latent, along one side."""
        config = self.vae.config
        return 2 ** (len(config.get("block_out_channels") or config.encoder_block_out_channels) - 1)

    def picture_size(self) -> tuple[int, int]:
        """Height and width of what is sampled."""
        height, width = self.latent_shape()[-2:]
        return height * self.factor, width * self.factor

    def latent_shape(self) -> tuple[int, ...]:
        """(C, h, w) at the settings' size, or at the checkpoint's own."""
        height, width = self.settings.size or (self.net.config.sample_size * self.factor,) * 2
        return self.net.config.in_channels, height // self.factor, width // self.factor

    @property
    def offset(self) -> float:
        """The middle of the autoencoder's own latents, where the family's pipeline takes it away."""
        return 0.0

    def decode(self, latent: Tensor) -> Tensor:
        """Latents to images (B, 3, H, W) in [0, 1]."""
        latent = latent.to(self.vae.dtype) / self.vae.config.scaling_factor + self.offset
        with self._working(self.vae):
            images = self.vae.decode(latent, return_dict=False)[0]
        return pictured(images)

    def embed(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] to latents; the mean, where the autoencoder has a distribution.

        They are of the kind that is sampled, whatever precision the autoencoder works in.
        """
        with self._working(self.vae):
            encoded = self.vae.encode(images.to(self.home, self.vae.dtype) * 2 - 1, return_dict=False)[0]
        latent = encoded.mean if hasattr(encoded, "deterministic") else encoded
        return ((latent - self.offset) * self.vae.config.scaling_factor).to(self.latent_dtype)

    # the schedule

    def timesteps(self, scheduler: object, steps: int) -> Tensor:
        """The scheduler's timesteps, in 0..1000."""
        scheduler.set_timesteps(steps)
        return scheduler.timesteps

    def noised(self, clean: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        """The forward process at times (B,)."""
        return schedule.noised(self.scheduler, clean, noise, time)

    def target(self, clean: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        """What `predict` should return for a noised latent."""
        return schedule.target(self.scheduler, clean, noise, time)

    def clean(self, latent: Tensor, prediction: Tensor, time: Tensor) -> Tensor:
        """The clean latent that a prediction implies."""
        return schedule.clean(self.scheduler, latent, prediction, time)

    def examples(self, images: Tensor, generator: torch.Generator) -> tuple[State, Tensor]:
        """Pictures (B, 3, H, W) in [0, 1], noised to one random step, and what `predict` should return there."""
        steps = self.settings.steps
        step = int(torch.randint(steps, (), generator=generator))
        time = self.timesteps(copy.deepcopy(self.scheduler), steps)[step].to(self.device).expand(len(images))
        with torch.no_grad():
            clean = self.embed(images)
        noise = torch.randn(clean.shape, generator=generator).to(clean)
        return State(self.noised(clean, noise, time), time, step), self.target(clean, noise, time)

    def lesson(self, clean: Tensor, captions: Sequence[str], generator: torch.Generator, draws: int = 1) -> Tensor:
        """The training loss on latents of captioned pictures, each at the largest of `draws` random times."""
        noise = torch.randn(clean.shape, generator=generator).to(clean)
        time = torch.stack([self.random_times(len(clean), generator) for _ in range(draws)]).amax(0).to(clean.device)
        prediction = self.denoise(self.noised(clean, noise, time), time, self._encode(captions))
        return self.distance(prediction, self.target(clean, noise, time))

    def random_times(self, n: int, generator: torch.Generator) -> Tensor:
        """Training times (n,)."""
        return schedule.random_times(self.scheduler, n, generator)
