"""Pictures as bits, scale by scale: a tokenizer of pictures, and the schedule of its scales."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from Infinity import Schedule, Tokenizer, bits_to_tokens, draw_flips, self_correct, teacher_inputs
from Infinity.correction import Corrected
from Infinity.quantizer import tokens_to_bits
from stages.control.state import State

CERTAIN = 30.0  # the margin of a bit that is known: its probability is 1 in float32


class BitPictures:
    """Pictures (B, 3, H, W) to tokens (B, L, bits) of all scales and to states of the transformer, and back.

    A state's latent (B, L, bits) is the coarser scales' summed codes at every token, zeros at the first, where the
    pooled text stands.
    """

    def __init__(self, vae: Tokenizer, schedule: Schedule) -> None:
        self.vae, self.schedule = vae, schedule

    @property
    def patchify(self) -> int:
        """Cells of the tokenizer that make one token of the transformer, along one side."""
        return self.vae.config.patchify

    def size(self) -> tuple[int, int]:
        """Height and width in pixels of the last scale."""
        height, width = (side * self.vae.config.stride for side in self.schedule.finer(self.patchify)[-1])
        return height, width

    def decode(self, codes: Tensor) -> Tensor:
        """Summed codes (B, d, h, w) to pictures (B, 3, H, W) in [0, 1]."""
        return (self.vae.decode(codes) + 1) / 2

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) in [0, 1] to the tokenizer's features (B, d, h, w), not yet binary."""
        return self.vae.features(2 * images - 1)

    def corrected(self, features: Tensor, generator: torch.Generator | None = None) -> Corrected:
        """Inputs and labels of all scales for features (B, d, h, w); with a generator, some bits flipped on the way."""
        flips: list[Tensor] = []
        if generator is not None:
            shape = (len(features), features.shape[1])
            flips = draw_flips(self.schedule, shape, generator, patchify=self.patchify)
        return self_correct(features, self.schedule, flips, patchify=self.patchify)

    def examples(self, images: Tensor, name: str) -> tuple[State, Tensor]:
        """Pictures (B, 3, H, W) in [0, 1] as states of all scales, and the margins (B, L, bits) of their own bits.

        ValueError, with the backbone's name, for pictures of another size than it draws.
        """
        features = self.features(images)
        have, want = tuple(features.shape[-2:]), tuple(self.schedule.finer(self.patchify)[-1])
        if have != want:
            raise ValueError(
                f"pictures of {tuple(images.shape[-2:])} pixels give features of {have}, {name} has {want}"
            )
        corrected = self.corrected(features)
        return _state(corrected.inputs, corrected.labels), certain(corrected.labels)

    def forced(self, tokens: Tensor) -> State:
        """The state in which every scale is fed the coarser bits of `tokens` (B, L, bits)."""
        return _state(teacher_inputs(self.grids(tokens), self.schedule, self.patchify), tokens)

    def grids(self, tokens: Tensor) -> list[Tensor]:
        """Tokens (B, L, bits) scale by scale, each (B, h, w, bits) as the tokenizer of pictures has them."""
        parts = zip(tokens.split(self.schedule.lengths, dim=1), self.schedule.grids, strict=True)
        return [tokens_to_bits(part, grid, self.patchify) for part, grid in parts]

    def tokens(self, grids: Sequence[Tensor]) -> Tensor:
        """The bits of all scales, each (B, h, w, bits), as tokens (B, L, bits)."""
        return torch.cat([bits_to_tokens(grid, self.patchify) for grid in grids], dim=1)


def certain(tokens: Tensor) -> Tensor:
    """The margins (B, L, bits) that leave no doubt about the bits of `tokens` (B, L, bits)."""
    return CERTAIN * (2 * tokens.float() - 1)


def _state(inputs: Tensor, tokens: Tensor) -> State:
    latent = torch.cat([torch.zeros_like(inputs[:, :1]), inputs], dim=1)
    return State(latent, torch.zeros(len(latent), device=latent.device), step=0, final=tokens)
