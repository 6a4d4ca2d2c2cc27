"""Classifiers of pictures: any of `transformers`, or torchvision's ResNet-50 from its file of weights."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import AutoImageProcessor, AutoModelForImageClassification, ResNetConfig, ResNetForImageClassification

from stages.backbones.loading.checkpoints import load_alone
from stages.metrics.loading.states import read_state

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's pictures
RESIZED, CROPPED = 232, 224  # the shorter side and the square of torchvision's second recipe
PLACES = (  # torchvision's names of a ResNet's tensors, and where transformers keeps them
    (r"^fc\.", "classifier.1."),
    (r"^conv1\.", "resnet.embedder.embedder.convolution."),
    (r"^bn1\.", "resnet.embedder.embedder.normalization."),
    (r"^layer(\d)\.(\d+)\.downsample\.0\.", "resnet.encoder.stages.{0}.layers.{1}.shortcut.convolution."),
    (r"^layer(\d)\.(\d+)\.downsample\.1\.", "resnet.encoder.stages.{0}.layers.{1}.shortcut.normalization."),
    (r"^layer(\d)\.(\d+)\.conv(\d)\.", "resnet.encoder.stages.{0}.layers.{1}.layer.{2}.convolution."),
    (r"^layer(\d)\.(\d+)\.bn(\d)\.", "resnet.encoder.stages.{0}.layers.{1}.layer.{2}.normalization."),
)


@dataclass(frozen=True, eq=False)
class Classifier:
    """A network that gives a picture's classes their logits."""

    path: str  # where its weights are from
    model: Any  # of transformers, in evaluation mode
    prepare: Callable[[Sequence[np.ndarray]], Tensor]  # N arrays (H, W, 3) of bytes to (N, 3, S, S)
    names: tuple[str, ...]  # of its C classes

    @torch.no_grad()
    def __call__(self, pictures: Sequence[np.ndarray]) -> Tensor:
        """The logits (N, C) of N arrays (H, W, 3) of bytes, on the CPU."""
        logits: Tensor = self.model(self.prepare(pictures).to(self.model.device)).logits
        return logits.float().cpu()


@cache
def load_classifier(path: str, weights: str = "") -> Classifier:
    """The classifier of a folder or hub id, or of torchvision's file if one is named; loaded once.

    FileNotFoundError or ValueError is one line that says which tensor is missing, or how to get the file.
    """
    if weights:
        return _torchvision(weights)
    model, info = load_alone(AutoModelForImageClassification, path, use_safetensors=True, output_loading_info=True)
    # transformers leaves missing tensors random, with a warning: a judge that guesses
    broken = sorted({*info["missing_keys"], *(str(key) for key in info["mismatched_keys"])})
    if broken:
        raise ValueError(f"{path}: not the weights of this classifier: it is without {', '.join(broken[:3])}")
    processor = load_alone(AutoImageProcessor, path, backend="pil")
    names = tuple(str(model.config.id2label[i]) for i in range(model.config.num_labels))

    def prepare(pictures: Sequence[np.ndarray]) -> Tensor:
        pixels: Tensor = processor(images=[Image.fromarray(one) for one in pictures], return_tensors="pt").pixel_values
        return pixels

    return Classifier(path, _ready(model), prepare, names)


def _torchvision(weights: str) -> Classifier:
    """torchvision's `resnet50`: the network is the one of transformers, only its tensors have other names."""
    state = read_state(weights, "torchvision's resnet50, such as resnet50-11ad3fa6.pth")
    classes = len(state["fc.bias"]) if "fc.bias" in state else 1000
    model = ResNetForImageClassification(ResNetConfig(num_labels=classes))
    try:
        model.load_state_dict({_place(name): value for name, value in state.items()})
    except RuntimeError as error:
        said = " ".join(str(error).split())[:160]
        raise ValueError(f"{weights}: not the weights of torchvision's resnet50: {said}") from None
    return Classifier(weights, _ready(model), resized_pictures, tuple(f"class {i}" for i in range(classes)))


def _place(name: str) -> str:
    for pattern, place in PLACES:
        if found := re.match(pattern, name):
            stage, block, part = (int(number) for number in (*found.groups(), "1", "1", "1")[:3])
            return place.format(stage - 1, block, part - 1) + name[found.end() :]
    return name


def resized_pictures(pictures: Sequence[np.ndarray]) -> Tensor:
    """Arrays (H, W, 3) of bytes as torchvision's second recipe takes them, (N, 3, 224, 224).

    The shorter side is resized to 232 by Pillow, bilinearly, and the middle 224 x 224 standardised.
    """
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    return torch.stack([(_cropped(one) - mean) / std for one in pictures])


def _cropped(pixels: np.ndarray) -> Tensor:
    height, width = pixels.shape[:2]
    short, long = min(height, width), int(RESIZED * max(height, width) / min(height, width))
    sides = (RESIZED, long) if width == short else (long, RESIZED)
    image = Image.fromarray(pixels).resize(sides, Image.Resampling.BILINEAR)
    left, top = (int(round((side - CROPPED) / 2.0)) for side in sides)
    image = image.crop((left, top, left + CROPPED, top + CROPPED))
    return torch.from_numpy(np.asarray(image).copy()).movedim(-1, 0).float() / 255


def _ready(model: Any) -> Any:
    return model.eval().requires_grad_(False).to("cuda" if torch.cuda.is_available() else "cpu")
