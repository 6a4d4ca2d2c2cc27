"""Edits of a weight inside the null space of what it must keep (SPEED, arXiv 2503.07392). Rows are vectors."""

from __future__ import annotations

import torch
from torch import Tensor

RANK = 1e-12  # singular values below this share of the largest are rounding


def shift(weight: Tensor, targets: Tensor, anchors: Tensor) -> Tensor:
    """W (A - T)(I + T)^-1, (d_out, d): the change that targets ask for if nothing is kept; how much rows feel it says
    which of them matter. T = mean c^T c and A = mean g^T c are (d, d); float64.
    """
    weight, targets, anchors = weight.double(), targets.double(), anchors.double()
    return torch.linalg.solve(_eye(targets) + targets, weight @ (anchors - targets), left=False)


def above_mean(rows: Tensor, change: Tensor) -> Tensor:
    """Which rows (n, d) a change (d_out, d) moves by more than the mean: booleans (n,); all if it moves them alike."""
    moved = (rows.double() @ change.double().T).norm(dim=1)
    above = moved > moved.mean()
    return above if above.any() else torch.ones_like(above)


def smallest_direction(weight: Tensor) -> Tensor:
    """The last right singular vector (d,) of a weight's reduced decomposition, float64; of either sign.

    For d_out < d it is the smallest of the directions that the weight reads, not one that it ignores.
    """
    weight = weight.double()
    wide = weight.shape[0] < weight.shape[1]
    vector = torch.linalg.eigh(weight @ weight.T if wide else weight.T @ weight)[1][:, 0]  # far cheaper than an SVD
    return torch.nn.functional.normalize(weight.T @ vector, dim=0) if wide else vector


def augmented(rows: Tensor, direction: Tensor, noise: Tensor) -> Tensor:
    """r + (z . v) v: rows (n, d) varied along a direction (d,) by normal noise (n, d), float64."""
    direction = direction.double()
    return rows.double() + (noise.double() @ direction)[:, None] * direction


def null_projector(rows: Tensor, threshold: float) -> Tensor:
    """The projector (d, d), float64, on the directions along which rows (n, d) have a mean square below the threshold.

    The threshold is absolute: it scales with the square of the rows' length.
    """
    sizes, directions = torch.linalg.eigh(rows.double().T @ rows.double() / len(rows))
    null = directions[:, sizes < threshold]
    return null @ null.T


def null_space_change(
    weight: Tensor, second: tuple[Tensor, Tensor], projector: Tensor, invariant: Tensor, scale: float, soft: float = 0.0
) -> Tensor:
    """D = W (A - T) P (I - M K (K^T P M K + l I)^-1 K^T P) M with M = (T P + s I)^-1, (d_out, d), float64.

    The D in the range of P that minimises mean |(W + D) c - W g|^2 + s |D|^2 with D K = 0, or, for l = `soft` above 0,
    with (s / l) |D K|^2 added. `second` is (T, A), see `shift`; K = `invariant` (d, k) are the columns that stay, of
    which those that P makes dependent count once.
    """
    weight, projector, invariant = weight.double(), projector.double(), invariant.double()
    targets, anchors = (value.double() for value in second)
    inverse = torch.linalg.inv(targets @ projector + scale * _eye(targets))
    spread = projector @ inverse @ invariant
    gram = invariant.T @ spread + soft * torch.eye(invariant.shape[1], dtype=torch.float64, device=weight.device)
    free = weight @ (anchors - targets) @ projector
    stay = torch.linalg.pinv(gram, rtol=RANK) @ invariant.T @ projector
    return (free - (free @ inverse @ invariant) @ stay) @ inverse


def _eye(like: Tensor) -> Tensor:
    return torch.eye(len(like), dtype=torch.float64, device=like.device)
