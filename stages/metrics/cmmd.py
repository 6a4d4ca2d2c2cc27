"""CMMD (Jayasumana 2024, arXiv 2401.09603): a kernel distance of CLIP's features, kinder to few pictures than FID."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from stages.metrics.base import Statistics
from stages.metrics.clip_score import MEAN, STD, load_clip
from stages.metrics.compared import Compared
from stages.metrics.samples import floats

SIGMA, SCALE = 10.0, 1000.0  # of the Gaussian kernel, and of the published numbers
BLOCK = 4096  # rows whose kernel is held at once


@dataclass(frozen=True)
class CMMD(Compared):
    """cmmd_REFERENCE_nN: the squared discrepancy of CLIP's unit vectors under a Gaussian kernel, times 1000.

    As published it is the biased estimate. Pictures are squeezed to CLIP's square without a crop.
    """

    model: str = "openai/clip-vit-large-patch14-336"  # folder or hub id of a CLIP

    @property
    def network(self) -> list[Any]:
        return [self.model]

    @torch.no_grad()
    def embed(self, images: Tensor) -> Tensor:
        model = load_clip(self.model)[0]
        side = model.config.vision_config.image_size
        mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
        pixels = (functional.interpolate(floats(images), (side, side), mode="bicubic") - mean) / std
        pooled = model.vision_model(pixel_values=pixels.to(model.device)).pooler_output
        return functional.normalize(model.visual_projection(pooled), dim=-1).float().cpu()

    def summary(self, features: Tensor) -> Statistics:
        return {"features": features, "within": torch.tensor(mean_kernel(features, features), dtype=torch.float64)}

    def between(self, edited: Statistics, other: Statistics) -> dict[str, float]:
        across = mean_kernel(edited["features"], other["features"])
        return {"cmmd": SCALE * (float(edited["within"]) + float(other["within"]) - 2 * across)}

    def heads(self) -> Mapping[str, str]:
        return {"cmmd": "CMMD"}


def mean_kernel(x: Tensor, y: Tensor) -> float:
    """The mean of exp(-|a - b|^2 / (2 sigma^2)) over all pairs of features (N, D) and (M, D), a block at a time."""
    total = 0.0
    for part in x.double().split(BLOCK):
        for other in y.double().split(BLOCK):
            squares = part.square().sum(1)[:, None] + other.square().sum(1) - 2 * part @ other.T
            total += float((-squares / (2 * SIGMA**2)).exp().sum())
    return total / (len(x) * len(y))
