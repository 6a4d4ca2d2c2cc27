"""UnlearnCanvas accuracies (Zhang 2024, arXiv 2402.11846) from stored predictions of its two classifiers.

Predictions are class numbers (unlearned class, true style, true object, seed): model k has unlearned class k of its
domain. Whether the un-styled seed images count among the other styles is disputed, so both denominators are given.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Accuracies:
    """One value per unlearned model, each (K,)."""

    ua: Tensor  # 1 - accuracy on the unlearned class
    ira: Tensor  # mean accuracy of the other classes of its domain
    ira_without_seed: Tensor  # the same without the un-styled class, or equal where there is none
    cra: Tensor  # mean accuracy of the other domain, on all images
    cra_others: Tensor  # the same on the images of other classes alone

    def mean(self) -> dict[str, float]:
        """The mean over models, by name."""
        return {name: float(values.mean()) for name, values in vars(self).items()}


def accuracies(own: Tensor, other: Tensor, *, axis: int, seed_class: int | None = None) -> Accuracies:
    """The accuracies of models that each unlearned one class of the domain on `axis` (0 styles, 1 objects).

    own, other: predictions of the classifier of that domain and of the other one, both (K, styles, objects, seeds).
    ValueError for other shapes, or more models than classes.
    """
    if own.shape != other.shape or own.ndim != 4 or axis not in (0, 1):
        shapes = f"{tuple(own.shape)} and {tuple(other.shape)}"
        raise ValueError(f"expected two tensors (K, styles, objects, seeds) and axis 0 or 1, got {shapes}, {axis}")
    if len(own) > own.shape[1 + axis]:
        raise ValueError(f"{len(own)} models cannot each have unlearned one of {own.shape[1 + axis]} classes")
    accuracy, cross = (
        _by_class(own, axis, axis),
        _by_class(other, 1 - axis, axis),
    )  # (K, C), images grouped by own class
    target = torch.eye(accuracy.shape[1], dtype=torch.bool)[: len(own)]
    styled = torch.ones_like(target)
    if seed_class is not None:
        styled[:, seed_class] = False
    return Accuracies(
        ua=1 - accuracy[target],
        ira=_mean(accuracy, ~target),
        ira_without_seed=_mean(accuracy, ~target & styled),
        cra=cross.mean(1),
        cra_others=_mean(cross, ~target),
    )


def _by_class(predicted: Tensor, truth: int, group: int) -> Tensor:
    """The accuracy (K, C) against the true class on axis `truth`, of the images of each class on `group`."""
    shape = [1, 1, 1, 1]
    shape[1 + truth] = -1
    right = predicted == torch.arange(predicted.shape[1 + truth]).reshape(shape)
    return right.double().movedim(1 + group, 1).flatten(2).mean(2)


def _mean(values: Tensor, mask: Tensor) -> Tensor:
    return (values * mask).sum(1) / mask.sum(1)
