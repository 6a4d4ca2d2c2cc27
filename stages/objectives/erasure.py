"""Erasure by training and in closed form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, cast

import torch
from torch import Tensor
from torch.nn.functional import softmax

Reduction = Literal["mean", "sum"]


def clean_from_noise(latent: Tensor, noise: Tensor, alpha_bar: Tensor) -> Tensor:
    """The clean latent that predicted noise implies: (x_t - sqrt(1 - abar) eps) / sqrt(abar), arXiv 2010.02502.

    Latent and noise are of any equal shape, to which `alpha_bar` broadcasts.
    """
    return (latent - (1 - alpha_bar).sqrt() * noise) / alpha_bar.sqrt()


def masked_error(prediction: Tensor, target: Tensor, mask: Tensor, *, channels: bool = True) -> Tensor:
    """Squared error of predictions (B, C, ...) averaged inside a mask (B, 1, ...), then over the batch: a scalar.

    arXiv 2303.13516.

    With `channels` off the denominator counts the mask's one channel, as the released code does: C times as much.
    """
    error = ((prediction - target).square() * mask).flatten(1).sum(1)
    inside = mask.flatten(1).sum(1) * (prediction.shape[1] if channels else 1)
    return (error / inside).mean()


def outside(outputs: Sequence[Tensor], masks: Sequence[Tensor], reduction: Reduction = "mean") -> Tensor:
    """The mean over sites of mean_channels(o^2) averaged over M = 0: a scalar of what adapters add outside the concept.

    One output (B, N, C) and one mask (B, N) for each site. Receler, arXiv 2311.17717 (concept-localized
    regularization), and T2VUnlearning, arXiv 2505.17550 (localisation), normalised by area so that its weight means the
    same at every size. 0 for a site whose mask is full. `sum` is || o (1 - M) ||^2 as the papers print it, which grows
    with size and batch.
    """
    if reduction == "sum":
        parts = [(o * (1 - m.to(o.dtype)).unsqueeze(-1)).square().sum() for o, m in zip(outputs, masks, strict=True)]
        return torch.stack(parts).mean()
    shares = []
    for output, mask in zip(outputs, masks, strict=True):
        background = 1 - mask.to(output.dtype)
        shares.append((output.square().mean(-1) * background).sum() / background.sum().clamp_min(1))
    return torch.stack(shares).mean()


def squared_inside(maps: Sequence[Tensor], masks: Sequence[Tensor]) -> Tensor:
    """The sum over sites of || A M ||^2, averaged over the batch: a scalar of the attention to a concept where it is.

    One map (B, N) and one mask (B, N) for each site; the maps are summed over the concept's tokens. MACE, arXiv
    2403.06135.
    """
    parts = [(value * mask.to(value)).square().sum(1) for value, mask in zip(maps, masks, strict=True)]
    return torch.stack(parts).sum(0).mean()


def salient(gradients: Sequence[Tensor], share: float) -> list[Tensor]:
    """Where a weight's gradient is large: 1(|g| >= gamma), boolean masks of the gradients' own shapes.

    gamma is one for all of them, so that the largest `share` of all entries is taken: int(n share) of n, more if some
    are equal, fewer if the others are 0. SalUn, arXiv 2310.12508, sec. 4.
    """
    sizes = torch.cat([gradient.abs().flatten().float() for gradient in gradients])
    many = int(len(sizes) * share)
    if not many:
        return [torch.zeros_like(gradient, dtype=torch.bool) for gradient in gradients]
    gamma = sizes.kthvalue(len(sizes) - many + 1).values
    return [(gradient.abs() >= gamma) & (gradient != 0) for gradient in gradients]


def contrast(prediction: Tensor, anchor: Tensor, target: Tensor, eta: float) -> Tensor:
    """max(0, ||v - v_anchor|| - eta ||v - v_target||), the mean over rows: a scalar of predictions (B, ...).

    Euclidean norms of whole rows. It pulls towards the anchor and pushes off the target, and is 0 once that is reached.
    GEM, arXiv 2606.00140, eq. 13 and 14.
    """
    near, far = ((prediction - other).float().flatten(1).norm(dim=1) for other in (anchor, target))
    return (near - eta * far).relu().mean()


def edited_weight(weight: Tensor, keys: Tensor, values: Tensor, scales: Tensor, ridge: float) -> Tensor:
    """W' = (ridge W + sum_i s_i v_i c_i^T)(ridge I + sum_i s_i c_i c_i^T)^-1, (d_out, d_in), solved in float64.

    Keys c (n, d_in) are mapped to values v (n, d_out) with weights s (n,). UCE, arXiv 2308.14761 eq. 7, which prints no
    ridge: without one the inverse exists only if the keys span the space.
    """
    weight, keys, values, scales = (t.double() for t in (weight, keys, values, scales))
    weighted = keys * scales.unsqueeze(-1)
    right = ridge * weight + values.T @ weighted
    left = ridge * torch.eye(keys.shape[1], dtype=torch.float64, device=keys.device) + keys.T @ weighted
    return torch.linalg.solve(left, right, left=False)


def projected_out(values: Tensor, direction: Tensor) -> Tensor:
    """Values without their part along a direction, both taken as one long vector: v - <u, v> u, u = d / ||d||.

    Any shape, both equal. The `tensor` technique of UCE's code.
    """
    unit = direction / direction.norm()
    return values - (unit * values).sum() * unit


def revived(
    edited: Sequence[Tensor],
    original: Sequence[Tensor],
    embedding: Tensor,
    ridge: float,
    form: str = "zero",
    anchor: Tensor | None = None,
) -> Tensor:
    """The embedding (..., d) that brings a concept back through edited weights (d_out, d) each, solved in float64.

    With A = sum W'^T W' and B = sum W'^T W: `zero` (A + r I)^-1 B c, the closed form of RECE, arXiv 2407.12383;
    `anchor` adds r times another embedding to the right-hand side; `weights` ((1 + r) A)^-1 (B + r A) c; `identity`
    (A + r I)^-1 (B + r I) c; `both` (A + r A + r I)^-1 (B + r A + r I) c. ValueError if `anchor` has none.
    """
    gram = cast(Tensor, sum(w.double().T @ w.double() for w in edited))
    cross = cast(Tensor, sum(w.double().T @ o.double() for w, o in zip(edited, original, strict=True)))
    eye = torch.eye(len(gram), dtype=torch.float64, device=gram.device)
    added: dict[str, Tensor | float] = {"zero": 0, "anchor": 0, "weights": gram, "identity": eye, "both": gram + eye}
    extra = added[form] * ridge
    left = gram + (ridge * eye if form in ("zero", "anchor") else extra)
    right = embedding.double() @ (cross + extra).T
    if form == "anchor":
        if anchor is None:
            raise ValueError("the form anchor needs an anchor")
        right = right + ridge * anchor.double()
    return torch.linalg.solve(left.T, right.flatten(0, -2), left=False).view_as(right)


def gumbel_softmax(logits: Tensor, uniform: Tensor, temperature: float, *, hard: bool = False) -> Tensor:
    """softmax((logits + g) / temperature) over the last dimension, g = -log(-log u); one-hot with the soft gradient if
    `hard`. Logits and u in [0, 1) are of any equal shape.

    arXiv 1611.01144 eq. 2, as arXiv 2410.15618 searches for the concept to preserve.
    """
    tiny = 1e-10
    noise = -torch.log(-torch.log(uniform + tiny) + tiny)
    soft = softmax((logits + noise) / temperature, dim=-1)
    if not hard:
        return soft
    one_hot = torch.zeros_like(soft).scatter_(-1, soft.argmax(-1, keepdim=True), 1.0)
    return one_hot - soft.detach() + soft
