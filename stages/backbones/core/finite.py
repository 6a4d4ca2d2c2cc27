"""Latents and pictures that are not finite end a job, with the prompt, the seed and the likely reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from stages.store.finite import REASONS, check_rows, finite


class Generator(Protocol):
    """A backbone, as far as a message needs one."""

    name: str

    def modules(self) -> Mapping[str, nn.Module]: ...


def check_finite(
    backbone: Generator, what: str, values: Tensor, prompts: Sequence[str], seeds: Sequence[int]
) -> Tensor:
    """The values (N, ...) as they are; FloatingPointError for the first row that is not finite.

    It names the backbone, the row's prompt and seed, and the likely reason; `what` says what a row is.
    """
    if not finite(values).all():
        check_rows(what, values, backbone.name, prompts, seeds, reason(backbone))
    return values


def pictured(images: Tensor) -> Tensor:
    """What an autoencoder decodes, [-1, 1], as pictures in [0, 1], any shape; infinite values become NaN.

    Clamped, an overflow would pass for white or black.
    """
    images = images / 2 + 0.5
    return torch.where(images.isinf(), torch.nan, images).clamp(0, 1)


def reason(backbone: Generator) -> str:
    """Weights that are not finite, by name; else what usually makes numbers overflow."""
    for part, module in backbone.modules().items():
        for name, value in module.named_parameters():
            if value.is_floating_point() and not torch.isfinite(value).all():
                return f"the weight {part}.{name} is not finite: a damaged checkpoint, or a training that diverged"
    dtypes = {value.dtype for module in backbone.modules().values() for value in module.parameters()}
    if torch.float16 in dtypes:
        return f"numbers beyond float16's range: {REASONS}"
    return REASONS
