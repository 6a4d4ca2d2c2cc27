"""Which of two classes a linear classifier of frozen CLIP features sees: the documented measure of steering."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from stages.metrics.base import Samples
from stages.metrics.clip_score import embed_frames, load_clip
from stages.metrics.rates import Outcomes
from stages.params.types import File


@dataclass(frozen=True)
class LinearRates(Outcomes):
    """target: the classifier names the class that the concept's target asks for.

    `weights` is the state of one linear layer, a row for each of `classes`, the values of `label`; its features are
    the unit image vectors of `model`, of a clip the mean over frames.
    """

    CHOICES: ClassVar[str] = "classes"  # the values of the one label `label`

    weights: File = ""
    label: str = "class"
    classes: tuple[str, ...] = ()
    model: str = "openai/clip-vit-base-patch32"

    def names(self, samples: Samples) -> tuple[str, ...]:
        return ("target",)

    def features(self, samples: Samples) -> Tensor:
        """Returns whether the target's class is the likeliest, (N, 1)."""
        wanted = samples.target.get(self.label)
        if wanted not in self.classes:
            raise ValueError(f"classes: no {self.label} {wanted!r}, which the concept's target asks for")
        weight, bias = read_linear(self.weights, len(self.classes))
        model = load_clip(self.model)[0]
        embedded = embed_frames(model, samples.images).mean(1)
        if embedded.shape[1] != weight.shape[1]:
            raise ValueError(f"{self.weights}: takes {weight.shape[1]} features, {self.model} has {embedded.shape[1]}")
        seen = (embedded @ weight.to(embedded).T + bias.to(embedded)).argmax(1)
        return (seen == self.classes.index(wanted)).float()[:, None].cpu()


def read_linear(path: str, classes: int) -> tuple[Tensor, Tensor]:
    """Returns weight (K, D) and bias (K,) of a saved state without running what a pickle may hold."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} is missing: the linear classifier's weights")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(f"{path}: not a state of tensors: {' '.join(str(error).split())[:100]}") from None
    tensors: Sequence[Tensor] = list(state.values()) if isinstance(state, Mapping) else []
    shapes = sorted((tuple(value.shape) for value in tensors if isinstance(value, Tensor)), key=len)
    if [len(shape) for shape in shapes] != [1, 2] or {shape[0] for shape in shapes} != {classes}:
        raise ValueError(f"{path}: expected one linear layer to {classes} classes, got tensors of {shapes}")
    bias, weight = sorted(tensors, key=lambda value: value.ndim)
    return weight, bias
