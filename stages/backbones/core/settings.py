"""The keys of a file in params/backbones/."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from stages.params.types import Count, Fraction, Natural, NonNegative, Rate


@dataclass(frozen=True)
class Settings:
    """A backbone's file in params/backbones/."""

    path: str  # a folder in the ecosystem's own format, or a repository id
    family: str
    architecture: str = ""  # methods tuned on small worlds have settings for each, see params/tuned/
    world: str | None = None
    revision: str | None = None
    variant: str | None = None  # of the weight files, such as fp16
    dtype: str = "float32"
    steps: Count = 50  # of the sampler
    scheduler: str | None = None  # a diffusers class that takes over the numbers of the checkpoint's own
    # As the family takes it: of classifier-free guidance, or told to a network that was distilled to be told it. At
    # most 1 for one that was distilled to be sampled without: then no method and no attack guides it.
    guidance: NonNegative = 7.5
    batch: Count = 32  # images sampled at a time
    pool: Count = 32  # cached trajectories of the frozen network per training prompt
    size: tuple[Count, Count] | None = None  # height, width in pixels (Infinity: ratio); the checkpoint's own when None
    frames: Natural = 0  # of a clip; 0 for images
    text_length: Count | None = None  # tokens of a long text encoder (T5, Gemma); its pipeline's own when None
    training_guidance: NonNegative = 1.0  # told to a guidance-distilled network while it trains; 1 guides it least
    gradient_checkpointing: bool = False
    vae_tiling: bool = False
    vae_slicing: bool = False
    offload: Literal["none", "parts", "blocks"] = "none"  # parts, or the network's blocks too, wait on the CPU
    cache: str | None = None  # a folder that keeps prompt embeddings
    free_text_encoder: bool = False  # drop the text encoders once the network starts; read again for a new prompt
    temperature: Rate = 1.0  # of the values that an autoregressive network draws
    top_p: Fraction = 0.0  # a value of probability at most 1 - top_p is not drawn; 0 for all
    memory: Count = 8000  # MB of the machine's memory that a job with it takes; only the scheduler reads it
    minutes: Count = 240  # that a training with it takes at most, other jobs less; only the scheduler reads it
    release: dict[str, Any] = field(default_factory=dict)  # Infinity's published files, see Infinity.Release
    autoencoder: str = "autoencoder"  # the part of its world that turns pictures into latents or bits
    build: dict[str, Any] = field(default_factory=dict)  # the architecture of a world's own backbone
    pretrain: dict[str, Any] = field(default_factory=dict)  # its training
    oracle: str | None = None  # a twin in params/backbones/ that was never shown what its training excludes
    trained: Natural | None = None  # its training's seed, if others of its architecture and world differ in that alone

    def batches(self, n: int) -> list[slice]:
        """n rows in parts of `batch`."""
        return [slice(start, start + self.batch) for start in range(0, n, self.batch)]
