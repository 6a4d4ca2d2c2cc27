"""Image classifiers as judges: ImageNet's ResNet-50, a network of painters' styles, and any other of `transformers`.

UnlearnDiffAtk (arXiv 2310.11868) counts the first class of microsoft/resnet-50, RECE and T2VUnlearning the first or
first five of torchvision's, which was trained by another recipe and answers differently.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, ClassVar

import torch
from torch import Tensor

from stages.metrics.base import Column
from stages.metrics.clips import share_columns, verdicts
from stages.metrics.judging import Judging
from stages.metrics.loading.networks import Classifier, load_classifier
from stages.metrics.members import each_member, members_of, shown
from stages.metrics.rates import apart, as_asked, asked_for, of_relation, retained_columns
from stages.metrics.samples import Samples, finite, frames, of_each_size
from stages.params import suggestion
from stages.params.concept import values
from stages.params.datasets import Target
from stages.params.types import Count, File
from stages.store.pictures import to_pixels

KEPT = 10  # classes of a picture that are stored: papers read the first ten at most
BATCH = 32  # pictures that are judged at once

Classes = Mapping[str, Mapping[str, int]]  # label -> value -> the number of its class


@dataclass(frozen=True)
class Ranked:
    """Where classes stand among a classifier's answers, the likeliest first."""

    probabilities: Tensor  # (N, F, C), F = 1 for pictures
    classes: Classes
    top: int = 1  # the number of places that count

    def shows(self, target: Target) -> Tensor:
        """Whether each frame shows all of `target`, (N, F) bool; of a label's values in a list, any counts."""
        return self._within(self.probabilities, target)

    def right(self, target: Target) -> Tensor:
        """The same of samples, (N,) bool: a clip's is read off the mean of its frames' probabilities."""
        return self._within(self.probabilities.mean(1), target)

    def named(self, label: str) -> list[str]:
        """The value of each sample's likeliest class; empty if the label has none of it."""
        known = {number: value for value, number in self.classes[label].items()}
        return [known.get(number, "") for number in self.probabilities.mean(1).argmax(1).tolist()]

    def _within(self, probabilities: Tensor, target: Target) -> Tensor:
        first = probabilities.topk(self.top, -1).indices
        each = []
        for label, wanted in target.items():
            numbers = torch.tensor([self.classes[label][value] for value in values(wanted)])
            each.append(torch.isin(first, numbers).any(-1))
        return torch.stack(each).all(0)


@dataclass(frozen=True)
class Classified(Judging):
    """target: the concept's class is the likeliest, in any frame of a clip; target_top5: among the first five.

    esr_k, on prompts that ask for the concept, is 1 if its class is not among the first k; psr_k, on others, if the
    class that they ask for is. A clip's are of the mean of its frames. Labels, `joint` and `other` are those of
    `CLIPRates`; what a prompt asks for that is none of `classes` is not judged.
    `evidence` holds the ten likeliest classes of each frame with their probabilities.
    """

    SIZES = True
    CHOICES: ClassVar[str] = "classes"
    NEEDED: ClassVar[Mapping[str, str]] = {
        "model or weights": "a folder or hub id of an image classifier, or torchvision's resnet50-11ad3fa6.pth"
    }

    model: str = "microsoft/resnet-50"  # folder or hub id of an image classifier of transformers
    weights: File = ""  # file of torchvision's ResNet-50 (V2 recipe), read in place of `model`
    classes: dict[str, dict[str, int | str]] = field(default_factory=dict)  # label -> value -> class: number or name
    tops: tuple[Count, ...] = (1, 5)  # the numbers of places that are counted; the first says whether it is seen

    def __post_init__(self) -> None:
        if not any(self.classes.values()):
            raise ValueError("classes must give a label's values the classes of the network")
        if not self.tops or max(self.tops) > KEPT:
            raise ValueError(f"tops must be 1 to {KEPT}, got {self.tops}")

    @property
    def seen(self) -> str:
        return self._name(self.tops[0])

    def features(self, samples: Samples) -> Tensor:
        """The probability of each class, (N, F, C).

        ValueError for a network that lacks a class or weights, FloatingPointError for answers that are not finite.
        """
        network = load_classifier(self.model, self.weights)
        _numbers(self.classes, network)
        for label, wanted in samples.target.items():
            for value in values(wanted):
                if value not in self.classes.get(label, ()):
                    raise ValueError(f"classes: no {label} {value!r}, which the concept's target asks for")

        def answers(images: Tensor) -> Tensor:
            every = torch.cat([network(to_pixels_of(part)) for part in frames(images).split(BATCH)])
            return every.unflatten(0, (len(images), -1))

        return finite(of_each_size(samples, answers), samples, "the classifier's answers").softmax(-1)

    def verdicts(self, features: Tensor, samples: Samples) -> dict[str, Tensor]:
        classes = _numbers(self.classes, load_classifier(self.model, self.weights))
        samples = _judged(samples, classes)
        ranked = {top: Ranked(features, classes, top) for top in self.tops}
        told: dict[str, Tensor] = {}
        for top, answer in ranked.items():
            told |= verdicts(self._name(top), shown(answer, samples), samples)
        for top, answer in ranked.items():
            told |= successes(answer, samples, top)
        first = ranked[self.tops[0]]
        asked = asked_for(samples, self.classes)
        right = {name: as_asked(first, samples, labels) for name, labels in asked.items()}
        kept = {name: of_relation(right["joint"], samples, kind) for name, kind in apart(samples, self.classes).items()}
        members = members_of(samples)
        each = dict(zip(members, each_member(told[self.seen], samples, members), strict=True))
        return told | right | kept | each

    def evidence(self, features: Tensor) -> list[list[list[list[float]]]]:
        """Of each sample, of each frame, the likeliest classes: number and probability, [N][F][10][2]."""
        best = features.topk(min(KEPT, features.shape[-1]), -1)
        pairs = torch.stack([best.indices.double(), best.values.double()], -1)
        return [
            [[[int(number), round(share, 6)] for number, share in frame] for frame in sample]
            for sample in pairs.tolist()
        ]

    def columns(self) -> tuple[Column, ...]:
        rest = [
            Column("concept", f"{self._name(top)}_rate", f"Seen in the first {top}", "low") for top in self.tops[1:]
        ]
        kept = [Column("retain", f"psr_{top}_rate", f"Retained in the first {top}", "high") for top in self.tops]
        other = Column("concept", "other_rate", "Rest of the prompt right", "high")
        return (*share_columns(self.seen), *rest, other, *kept, *retained_columns(self.classes))

    def _name(self, top: int) -> str:
        return "target" if top == 1 else f"target_top{top}"


def successes(answer: Ranked, samples: Samples, top: int) -> dict[str, Tensor]:
    """esr_k and psr_k, (N,) each, NaN for samples that ask for the other kind; left out if none asks for its kind.

    T2VUnlearning (arXiv 2505.17550) counts a success of erasing if the class is not among the first k, and one of
    preserving if it is.
    """
    esr, psr = torch.full((2, len(samples.rows)), torch.nan).unbind()
    for i, row in enumerate(samples.rows):
        asked = {label: str(row[label]) for label, known in answer.classes.items() if row.get(label) in known}
        if not asked:
            continue
        inside = float(Ranked(answer.probabilities[i : i + 1], answer.classes, top).right(asked)[0])
        if _asks_for(asked, samples.target):
            esr[i] = 1 - inside
        else:
            psr[i] = inside
    return {name: told for name, told in ((f"esr_{top}", esr), (f"psr_{top}", psr)) if not told.isnan().all()}


def _judged(samples: Samples, classes: Classes) -> Samples:
    """The samples with labels alone that are among the classes."""
    rows = [{k: "" if k in classes and v not in classes[k] else v for k, v in row.items()} for row in samples.rows]
    return replace(samples, rows=rows)


def to_pixels_of(images: Tensor) -> Sequence[Any]:
    """Pictures (N, 3, H, W), bytes or in [0, 1], as arrays (H, W, 3) of bytes."""
    if images.dtype == torch.uint8:
        return list(images.movedim(1, -1).numpy())
    return list(to_pixels(images))


def _asks_for(asked: Mapping[str, str], target: Target) -> bool:
    return bool(target) and all(asked.get(label) in values(wanted) for label, wanted in target.items())


def _numbers(classes: Mapping[str, Mapping[str, int | str]], network: Classifier) -> dict[str, dict[str, int]]:
    """The number of each value's class; ValueError names one that the network has not."""
    return {
        label: {value: _number(name, network, f"classes: {label}: {value}") for value, name in known.items()}
        for label, known in classes.items()
    }


@cache
def _number(name: int | str, network: Classifier, where: str) -> int:
    if isinstance(name, int):
        if not 0 <= name < len(network.names):
            raise ValueError(f"{where}: {network.path} has {len(network.names)} classes, no number {name}")
        return name
    if name not in network.names:
        raise ValueError(f"{where}: {network.path} has no class {name!r}{suggestion(name, network.names)}")
    return network.names.index(name)
