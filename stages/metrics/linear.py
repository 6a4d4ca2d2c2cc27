"""Which of two classes a linear classifier of frozen CLIP features sees: the documented measure of steering."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from stages.metrics.clip_score import embed_samples, load_clip
from stages.metrics.clips import verdict_names, verdicts
from stages.metrics.rates import Outcomes
from stages.metrics.samples import Samples, finite
from stages.params.project import located
from stages.params.types import File


@dataclass(frozen=True)
class LinearRates(Outcomes):
    """target: the classifier names the class that the concept's target asks for, in any frame of a clip.

    It reads the unit image vectors of `model`.
    """

    SIZES = True
    CHOICES: ClassVar[str] = "classes"  # the values of the one label `label`

    weights: File = ""  # file with the state of one linear layer, a row for each class
    label: str = "class"  # the label of the dataset that is told apart
    classes: tuple[str, ...] = ()  # its values, in the order of the rows
    model: str = "openai/clip-vit-base-patch32"  # folder or hub id of a CLIP

    def names(self, samples: Samples) -> tuple[str, ...]:
        return verdict_names("target", samples)

    def features(self, samples: Samples) -> Tensor:
        """1 if the target's class is the likeliest, else 0, (N, 1); for clips their shares, too, (N, 3).

        ValueError for a target that is no class or weights that do not fit, FloatingPointError for features that are
        not finite.
        """
        wanted = samples.target.get(self.label)
        if wanted not in self.classes:
            raise ValueError(f"classes: no {self.label} {wanted!r}, which the concept's target asks for")
        weight, bias = read_linear(self.weights, len(self.classes))
        model = load_clip(self.model)[0]
        embedded = finite(embed_samples(model, samples), samples, "CLIP's features")
        if embedded.shape[-1] != weight.shape[1]:
            raise ValueError(f"{self.weights}: takes {weight.shape[1]} features, {self.model} has {embedded.shape[-1]}")
        likeliest = (embedded @ weight.to(embedded).T + bias.to(embedded)).argmax(2)
        shown = (likeliest == self.classes.index(wanted)).cpu()  # (N, F)
        return torch.stack(list(verdicts("target", shown, samples).values()), 1)


def read_linear(path: str, classes: int) -> tuple[Tensor, Tensor]:
    """Weight (K, D) and bias (K,) of a saved state, read without running a pickle's code.

    FileNotFoundError or ValueError names a file that is missing, no single linear layer, or not finite.
    """
    if not located(path).is_file():
        raise FileNotFoundError(f"{path} is missing: the linear classifier's weights")
    try:
        state = torch.load(located(path), map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(f"{path}: not a state of tensors: {' '.join(str(error).split())[:100]}") from None
    tensors: Sequence[Tensor] = list(state.values()) if isinstance(state, Mapping) else []
    shapes = sorted((tuple(value.shape) for value in tensors if isinstance(value, Tensor)), key=len)
    if [len(shape) for shape in shapes] != [1, 2] or {shape[0] for shape in shapes} != {classes}:
        raise ValueError(f"{path}: expected one linear layer to {classes} classes, got tensors of {shapes}")
    bias, weight = sorted(tensors, key=lambda value: value.ndim)
    if not (bias.isfinite().all() and weight.isfinite().all()):
        raise ValueError(f"{path}: the weights are not finite")
    return weight, bias
