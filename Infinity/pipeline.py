"""Prompts to pictures: text encoder, transformer and tokenizer together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from .encoder import TextEncoder
from .releases import Release, check_pair, load_release
from .sampling import sample
from .schedules import Schedule, schedule
from .settings import Sampling
from .text import Text
from .tokenizer import Tokenizer
from .transformer import Infinity


@dataclass
class Pipeline:
    """Prompts to pictures.

    >>> pipeline = Pipeline.from_release(release, device="cuda", dtype=torch.bfloat16)
    >>> images = pipeline(["a photo of a red circle"], seeds=[0])  # (1, 3, 1024, 1024) in [0, 1]

    CheckpointError if the transformer reads another number of bits than the tokenizer writes.
    """

    model: Infinity
    tokenizer: Tokenizer
    encoder: TextEncoder
    pn: str  # pixel budget that the model was trained for: 0.06M, 0.25M, 0.60M or 1M

    def __post_init__(self) -> None:
        check_pair(self.model.config, self.tokenizer.config)

    @classmethod
    def from_release(
        cls,
        release: Release,
        *,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        text_cache: str | Path | None = None,
    ) -> Pipeline:
        """Load the files of `release`; `dtype` is that of the blocks and of the text encoder.

        CheckpointError if a file cannot be read or does not belong to the others.
        """
        model, tokenizer = load_release(release, device=device)
        encoder = TextEncoder(release.text_encoder_ckpt, cache=text_cache, dtype=dtype, device=device)
        return cls(model.cast_blocks(dtype), tokenizer, encoder, release.pn)

    def __call__(
        self,
        prompts: Sequence[str],
        *,
        seeds: Sequence[int],
        settings: Sampling | None = None,
        ratio: float = 1.0,
        negative: Sequence[str] | None = None,
        positive: bool = False,
    ) -> Tensor:
        """Pictures (B, 3, H, W) in [0, 1], one per prompt and seed.

        `ratio` is height over width; the nearest published one is drawn. `negative` holds one negative prompt per
        prompt; `positive` adds the published face phrase to prompts about people.
        """
        text = self.encoder.encode(prompts, positive=positive)
        against = None if negative is None else self.encoder.encode(negative)
        return self.draw(text, schedule(self.pn, ratio), seeds=seeds, settings=settings, negative=against)

    @torch.no_grad()
    def draw(
        self,
        text: Text,
        grids: Schedule,
        *,
        seeds: Sequence[int],
        settings: Sampling | None = None,
        negative: Text | None = None,
    ) -> Tensor:
        """Pictures (B, 3, H, W) in [0, 1] of encoded prompts, on the scales `grids`."""
        settings = replace(settings or Sampling(), patchify=self.tokenizer.config.patchify)
        weight = next(self.model.blocks.parameters())
        with torch.autocast(weight.device.type, weight.dtype, enabled=weight.dtype != torch.float32):
            result = sample(self.model, text, grids, settings, seeds=seeds, negative=negative)
            return (self.tokenizer.decode(result.summed) + 1) / 2
