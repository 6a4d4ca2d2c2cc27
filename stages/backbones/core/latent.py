"""Denoisers in the latent space of an autoencoder, as diffusers keeps them: one pipeline of named parts."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar, Self

import diffusers
import torch
from diffusers import AutoencoderTiny, DiffusionPipeline
from torch import Tensor, nn

from stages.backbones.core.base import freeze
from stages.backbones.core.diffusion import Diffusion
from stages.backbones.core.family import Family
from stages.backbones.core.finite import pictured
from stages.backbones.core.memory import at_work, divide, enable_checkpointing, stream_blocks
from stages.backbones.core.onednn import multiply_by_onednn
from stages.backbones.core.pipeline_texts import PipelineTexts
from stages.backbones.core.settings import Settings
from stages.backbones.core.sizes import check_picture, check_size
from stages.backbones.loading.checkpoints import (
    check_checkpoint,
    choose_scheduler,
    load_network,
    load_pipeline,
    options,
)
from stages.backbones.loading.folders import located
from stages.backbones.loading.one_file import load_one_file
from stages.control.addresses import TEXT
from stages.control.attached import Attached
from stages.control.state import State
from stages.seeds import Purpose, seed_of

CPU = torch.device("cpu")


class Latent(Diffusion, Family):
    """A family is a pipeline class, its parts' classes, a site table, and the call of its network."""

    PIPELINE: ClassVar[type[DiffusionPipeline]]
    MODEL: ClassVar[type[nn.Module]]
    SCHEDULER: ClassVar[type]  # of the world's own backbones; a checkpoint brings its own
    TEXTS: ClassVar[Mapping[str, Callable[[Mapping[str, Any], Any], nn.Module]]] = {}  # text encoders and their makers
    FOLLOWED: ClassVar[str] = TEXT  # the encoder whose tokens the condition's `embeds` begin with
    TEXT_SIDE: ClassVar[type[PipelineTexts]] = PipelineTexts
    TEXT_LENGTH: ClassVar[int | None] = None  # tokens of a long text encoder unless the settings say; None: it has none
    WITHOUT: ClassVar[Mapping[str, Any]] = {}  # parts of a checkpoint that are not loaded
    OPTIONAL: ClassVar[tuple[str, ...]] = ()  # text encoders that a checkpoint may be without
    PATCH: ClassVar[int] = 1  # latents per image token, along one side, unless the network's configuration says

    net: Any  # a MODEL; the configurations of diffusers' classes are known at run time alone
    texts: PipelineTexts

    def __init__(self, name: str, settings: Settings, pipeline: DiffusionPipeline, device: str = "cpu") -> None:
        self.settings, self.pipeline, self.home = settings, pipeline, torch.device(device)
        self.vae, self.scheduler = pipeline.vae, pipeline.scheduler
        net = getattr(pipeline, self.NET)
        place = CPU if self._waiting else self.home
        texts = self.TEXT_SIDE(
            name, pipeline, self.TEXTS, length=self._text_length(net), starts=self._text_starts(pipeline), place=place
        )
        super().__init__(name, settings, net, texts)
        self._check_size()
        if self.vae.dtype == torch.float16 and getattr(self.vae.config, "force_upcast", False):
            self.vae.float()  # overflows in half precision
        divide(self.vae, settings.vae_tiling, settings.vae_slicing)
        for module in self.modules().values():
            multiply_by_onednn(module)
        if settings.gradient_checkpointing:
            enable_checkpointing(net, self.attached)
        if settings.free_text_encoder:
            net.register_forward_pre_hook(_dropper(texts, self.attached))
        self._place()
        freeze(self.modules().values())

    # what a family provides, beside `denoise`

    @abstractmethod
    def _embed_prompts(self, prompts: list[str]) -> dict[str, Tensor]:
        """Prompts to tensors (B, ...), by the pipeline's own encoding."""

    def _text_length(self, net: nn.Module) -> int | None:
        """Tokens that the long text encoder reads; None: as many as its tokenizer says."""
        return None if self.TEXT_LENGTH is None else self.settings.text_length or self.TEXT_LENGTH

    def _text_starts(self, pipeline: DiffusionPipeline) -> dict[str, int]:
        """Encoders whose last states are rows of `embeds`, and the first row of each."""
        return {self.FOLLOWED: 0}

    # made, loaded, saved

    @classmethod
    def load(cls, name: str, settings: Settings, device: str = "cpu") -> Self:
        """The pipeline at settings.path: a folder or repository in diffusers' own format, or one .safetensors file.

        FileNotFoundError or ValueError says in one line what lies there instead and what to do.
        """
        settings = located(settings)
        if Path(settings.path).is_file():
            pipeline = load_one_file(cls.PIPELINE, settings, options(settings)["dtype"], **cls.WITHOUT)
            return cls(name, settings, _solved(pipeline, settings, name), device)
        needed = [cls.NET, "vae", "scheduler", *(part for part in cls.TEXTS if part not in cls.OPTIONAL)]
        check_checkpoint(settings, cls.PIPELINE, needed, cls.WITHOUT)
        net = {cls.NET: load_network(cls.MODEL, cls.NET, settings)}
        pipeline = load_pipeline(cls.PIPELINE, settings, "cpu", **net, **cls.WITHOUT)
        backbone = cls(name, settings, _solved(pipeline, settings, name), device)
        backbone.texts.source = settings
        return backbone

    @classmethod
    def create(cls, name: str, settings: Settings, tokenizer: Any, vae: Any, seed: int, device: str = "cpu") -> Self:
        """A network with random weights, as settings.build describes it; its scheduler may name a `_class_name`."""
        build = settings.build
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of(Purpose.WEIGHTS, seed))
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
        self.texts.encoders()  # reads again those that were dropped, which the folder must have
        self.pipeline.save_pretrained(folder)

    # the parts and where they are

    @property
    def device(self) -> torch.device:
        """Where the network works, even while its weights wait elsewhere."""
        return self.home

    def modules(self) -> Mapping[str, nn.Module]:
        """The network, the text encoders that are in memory, and the autoencoder."""
        return {"net": self.net, **self.texts.loaded(), "vae": self.vae}

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

    def _encode(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        made: dict[str, Tensor] = {}
        with self._working(*self.texts.encoders().values(), made=made):
            made |= self._embed_prompts(list(prompts))
        return made

    # pictures

    @property
    def factor(self) -> int:
        """Pixels per latent, along one side."""
        config = self.vae.config
        return 2 ** (len(config.get("block_out_channels") or config.encoder_block_out_channels) - 1)

    def picture_size(self) -> tuple[int, int]:
        """Height and width in pixels of samples."""
        height, width = self.latent_shape()[-2:]
        return height * self.factor, width * self.factor

    def latent_shape(self) -> tuple[int, ...]:
        """(C, h, w) at the settings' size, or at the checkpoint's own."""
        height, width = self.settings.size or (self.net.config.sample_size * self.factor,) * 2
        return self.net.config.in_channels, height // self.factor, width // self.factor

    @property
    def offset(self) -> float:
        """The mean of the autoencoder's own latents, if the family's pipeline subtracts it."""
        return 0.0

    def decode(self, latent: Tensor) -> Tensor:
        """Latents (B, C, h, w) to images (B, 3, H, W) in [0, 1]."""
        latent = latent.to(self.vae.dtype) / self.vae.config.scaling_factor + self.offset
        with self._working(self.vae):
            images = self.vae.decode(latent, return_dict=False)[0]
        return pictured(images)

    def embed(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] to latents (B, C, h, w); the mean if the autoencoder gives a distribution.

        Of the precision in which latents are sampled, whatever the autoencoder works in.
        """
        with self._working(self.vae):
            encoded = self.vae.encode(images.to(self.home, self.vae.dtype) * 2 - 1, return_dict=False)[0]
        latent = encoded.mean if hasattr(encoded, "deterministic") else encoded
        return ((latent - self.offset) * self.vae.config.scaling_factor).to(self._latent_dtype)

    # the schedule

    def _times(self, scheduler: Any, steps: int) -> Tensor:
        """Sets the scheduler to `steps` steps and returns its times (T,), in 0..1000."""
        scheduler.set_timesteps(steps)
        return scheduler.timesteps

    # learning

    def examples(self, images: Tensor, generator: torch.Generator, *, together: bool = False) -> tuple[State, Tensor]:
        """Pictures (B, 3, H, W) in [0, 1], noised to random training times, and the right predictions (B, C, h, w).

        A time per row, or one for all rows `together`: then the state's step is the sampler's call nearest to it.
        """
        times = self.process.random_times(1 if together else len(images), generator)
        step = self.solver(self.settings.steps).nearest(times[0])
        time = times.to(self.device).expand(len(images))
        with torch.no_grad():
            clean = self.embed(images)
        noise = torch.randn(clean.shape, generator=generator).to(clean)
        return State(self.process.noised(clean, noise, time), time, step), self.process.target(clean, noise, time)

    def training_loss(
        self, clean: Tensor, captions: Sequence[str], generator: torch.Generator, draws: int = 1
    ) -> Tensor:
        """This family's training loss (scalar) on latents (B, ...) from `embed` and their captions.

        Each row takes the noisiest of `draws` random times.
        """
        process, noise = self.process, torch.randn(clean.shape, generator=generator).to(clean)
        time = torch.stack([process.random_times(len(clean), generator) for _ in range(draws)]).amax(0).to(clean.device)
        prediction = self.denoise(process.noised(clean, noise, time), time, self._encode(captions))
        return self.distance(prediction, process.target(clean, noise, time))

    def _check_size(self) -> None:
        """ValueError for a size that the network cannot draw, and for frames."""
        check_picture(self.name, self.settings)
        check_size(self.name, self.settings.size, self._multiple(), self._most())

    def _multiple(self) -> int:
        """Pixels that height and width must be multiples of: those of one token."""
        return self.factor * max(self.PATCH, _patch(self.net.config.get("patch_size", 1)))

    def _most(self) -> int | None:
        """The largest height and width in pixels, if the network's table of positions ends there."""
        positions = self.net.config.get("pos_embed_max_size")
        return None if positions is None else positions * self._multiple()


def _patch(size: int | Sequence[int]) -> int:
    return size if isinstance(size, int) else size[-1]


def _solved(pipeline: DiffusionPipeline, settings: Settings, name: str) -> DiffusionPipeline:
    """The pipeline with the solver that the settings name, if they do."""
    if settings.scheduler:
        pipeline.scheduler = choose_scheduler(settings.scheduler, pipeline.scheduler, name)
    return pipeline


def _dropper(texts: PipelineTexts, attached: Attached) -> Callable[..., None]:
    """A hook that drops text encoders once the network starts, unless an edit is in them."""

    def drop(*_: Any) -> None:
        if not attached.text_swaps:
            texts.drop()

    return drop
