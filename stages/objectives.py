"""Pure tensor functions, one per equation, each citing it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, softmax

Reduction = Literal["mean", "sum"]


def negative_guidance(uncond: Tensor, cond: Tensor, scale: float) -> Tensor:
    """The prediction pushed away from the concept: uncond - scale (cond - uncond).

    ESD, arXiv 2303.07345 eq. 7; linear, so it holds for eps, v, flow velocity and bit margins alike.
    """
    return uncond - scale * (cond - uncond)


def away(origin: Tensor, uncond: Tensor, cond: Tensor, scale: float) -> Tensor:
    """Any prediction pushed away from the concept: origin - scale (cond - uncond), as ESD's released code does."""
    return origin - scale * (cond - uncond)


def guide(uncond: Tensor, cond: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance, arXiv 2207.12598 eq. 6 in diffusers' parametrisation."""
    return uncond + scale * (cond - uncond)


# masks

HARD = (0.83, -0.1, 1.1)  # the hard concrete distribution's temperature and the ends it is stretched to


def hard_concrete(score: Tensor, uniform: Tensor, noise: float = 0.5) -> Tensor:
    """A gate in [0, 1] that is exactly 0 or 1 with some probability: clamp(s (1.1 + 0.1) - 0.1, 0, 1), where
    s = sigmoid((log(u + noise) - log(1 - u + noise) + score) / 0.83).

    arXiv 1712.01312 eq. 10-11 as masks use it, arXiv 2507.13386; at `noise` 0.5 the logistic noise is within +-log 3.
    """
    temperature, low, high = HARD
    logit = torch.log(uniform + noise) - torch.log(1 - uniform + noise)
    return (torch.sigmoid((logit + score) / temperature) * (high - low) + low).clamp(0, 1)


def open_probability(score: Tensor) -> Tensor:
    """The probability that a hard concrete gate is not 0: sigmoid(score - 0.83 log(0.1 / 1.1)).

    arXiv 1712.01312 eq. 12, for logistic noise that is not bounded.
    """
    temperature, low, high = HARD
    return torch.sigmoid(score - temperature * math.log(-low / high))


def masked(activation: Tensor, mask: Tensor, fill: Tensor | None = None) -> Tensor:
    """Channels (..., n k) times a mask (n,), each number for k channels in a row; a product of float32, cast back.

    `fill` (of the activation's shape) takes the place of what the mask removes: h m + fill (1 - m).
    """
    grouped = mask.unsqueeze(-1)
    value = activation.unflatten(-1, (len(mask), -1)) * grouped
    if fill is not None:
        value = value + fill.unflatten(-1, (len(mask), -1)) * (1 - grouped)
    return value.flatten(-2).to(activation.dtype)


def erase_and_preserve(final: Tensor, wanted: Tensor, erased: int, beta: float) -> Tensor:
    """MSE(final, wanted) over the first `erased` rows, which show the concept, + beta MSE over the rows to preserve.

    Minimalist concept erasure, arXiv 2507.13386: both terms are on the last latent of the whole sampler.
    """
    error = (final.float() - wanted.float()).square()
    value = error[:erased].mean()
    return value + beta * error[erased:].mean() if len(error) > erased else value


def keep_gap(shares: Tensor, keep: float) -> Tensor:
    """(mean share - keep)^2: pulls the share of open masks towards a target."""
    return (shares.mean() - keep).square()


# erasure by training


def clean_from_noise(latent: Tensor, noise: Tensor, alpha_bar: Tensor) -> Tensor:
    """The clean latent that predicted noise implies: (x_t - sqrt(1 - abar) eps) / sqrt(abar), arXiv 2010.02502."""
    return (latent - (1 - alpha_bar).sqrt() * noise) / alpha_bar.sqrt()


def masked_error(prediction: Tensor, target: Tensor, mask: Tensor, *, channels: bool = True) -> Tensor:
    """Squared error (B, C, ...) averaged inside a mask (B, 1, ...), then over the batch; arXiv 2303.13516.

    With `channels` off the denominator counts the mask's one channel, as the released code does: C times as much.
    """
    error = ((prediction - target).square() * mask).flatten(1).sum(1)
    inside = mask.flatten(1).sum(1) * (prediction.shape[1] if channels else 1)
    return (error / inside).mean()


def outside(outputs: Sequence[Tensor], masks: Sequence[Tensor], reduction: Reduction = "mean") -> Tensor:
    """What adapters add where the concept is not: the mean over sites of mean_channels(o^2) averaged over M = 0.

    Outputs (B, N, C), masks (B, N). Receler, arXiv 2311.17717 (concept-localized regularization), and T2VUnlearning,
    arXiv 2505.17550 (localisation), normalised by area so that its weight means the same at every size. 0 for a site
    that is concept all over. `sum` is || o (1 - M) ||^2 as the papers print it, which grows with size and batch.
    """
    if reduction == "sum":
        parts = [(o * (1 - m.to(o.dtype)).unsqueeze(-1)).square().sum() for o, m in zip(outputs, masks, strict=True)]
        return torch.stack(parts).mean()
    shares = []
    for output, mask in zip(outputs, masks, strict=True):
        background = 1 - mask.to(output.dtype)
        shares.append((output.square().mean(-1) * background).sum() / background.sum().clamp_min(1))
    return torch.stack(shares).mean()


def edited_weight(weight: Tensor, keys: Tensor, values: Tensor, scales: Tensor, ridge: float) -> Tensor:
    """W' = (ridge W + sum_i s_i v_i c_i^T)(ridge I + sum_i s_i c_i c_i^T)^-1, solved in float64.

    Keys c (n, d_in) are mapped to values v (n, d_out). UCE, arXiv 2308.14761 eq. 7, which prints no ridge: without one
    the inverse exists only if the keys span the space.
    """
    weight, keys, values, scales = (t.double() for t in (weight, keys, values, scales))
    weighted = keys * scales.unsqueeze(-1)
    right = ridge * weight + values.T @ weighted
    left = ridge * torch.eye(keys.shape[1], dtype=torch.float64, device=keys.device) + keys.T @ weighted
    return torch.linalg.solve(left, right, left=False)


def projected_out(values: Tensor, direction: Tensor) -> Tensor:
    """Values without their part along a direction, both taken as one long vector: v - <u, v> u, u = d / ||d||.

    The `tensor` technique of UCE's first release.
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
    """The embedding (..., d) that brings a concept back through edited weights, solved in float64.

    With A = sum W'^T W' and B = sum W'^T W: `zero` (A + r I)^-1 B c, the closed form of RECE, arXiv 2407.12383;
    `anchor` adds r times another embedding to the right-hand side; `weights` ((1 + r) A)^-1 (B + r A) c; `identity`
    (A + r I)^-1 (B + r I) c; `both` (A + r A + r I)^-1 (B + r A + r I) c.
    """
    gram = sum(w.double().T @ w.double() for w in edited)
    cross = sum(w.double().T @ o.double() for w, o in zip(edited, original, strict=True))
    eye = torch.eye(len(gram), dtype=torch.float64, device=gram.device)
    extra = {"zero": 0, "anchor": 0, "weights": gram, "identity": eye, "both": gram + eye}[form] * ridge
    left = gram + (ridge * eye if form in ("zero", "anchor") else extra)
    right = embedding.double() @ (cross + extra).T
    if form == "anchor":
        right = right + ridge * anchor.double()
    return torch.linalg.solve(left.T, right.flatten(0, -2), left=False).view_as(right)


def gumbel_softmax(logits: Tensor, uniform: Tensor, temperature: float, *, hard: bool = False) -> Tensor:
    """softmax((logits + g) / temperature) with g = -log(-log u); one-hot with the soft gradient when `hard`.

    arXiv 1611.01144 eq. 2, as arXiv 2410.15618 searches for the concept to preserve.
    """
    tiny = 1e-10
    noise = -torch.log(-torch.log(uniform + tiny) + tiny)
    soft = softmax((logits + noise) / temperature, dim=-1)
    if not hard:
        return soft
    one_hot = torch.zeros_like(soft).scatter_(-1, soft.argmax(-1, keepdim=True), 1.0)
    return one_hot - soft.detach() + soft


def bit_cross_entropy(margins: Tensor, bits: Tensor) -> Tensor:
    """Cross-entropy of each bit under its margin logit1 - logit0: log(1 + exp(-(2 b - 1) d))."""
    return -logsigmoid(margins * (2 * bits.to(margins.dtype) - 1))


def wrong_tokens(margins: Tensor, bits: Tensor, share: float = 0.25) -> Tensor:
    """1 for tokens (..., L) of which at least `share` of the bits are wrong, 0 elsewhere.

    A bit is wrong when its cross-entropy is above ln 2; the filter of S-VARE, arXiv 2509.22400.
    """
    wrong = margins.detach() * (2 * bits.to(margins.dtype) - 1) < 0
    return (wrong.to(margins.dtype).mean(-1) >= share).to(margins.dtype)


def filtered_cross_entropy(
    margins: Tensor, bits: Tensor, share: float = 0.25, *, scales: Sequence[int] | None = None, kept: bool = False
) -> Tensor:
    """Cross-entropy of the neutral image's bits, only where the student is wrong; margins (B, L, bits).

    Divided by the full length L, arXiv 2509.22400 (filtered cross-entropy); `kept` divides by the tokens kept instead,
    `scales` (tokens of each scale) weighs all scales alike.
    """
    keep = wrong_tokens(margins, bits, share)
    loss = bit_cross_entropy(margins, bits).mean(-1) * keep
    if scales is not None:
        return torch.stack([part.mean(-1) for part in loss.split(list(scales), dim=-1)]).mean()
    if kept:
        return (loss.sum(-1) / keep.sum(-1).clamp_min(1)).mean()
    return loss.mean()


def bit_divergence(teacher: Tensor, student: Tensor) -> Tensor:
    """KL(teacher || student) of each bit's two-way distribution, from margins; the mean over all bits.

    The preservation loss of arXiv 2509.22400; the released code averages over both states of a bit and so has half.
    """
    probability = torch.sigmoid(teacher)
    one = logsigmoid(teacher) - logsigmoid(student)
    zero = logsigmoid(-teacher) - logsigmoid(-student)
    return (probability * one + (1 - probability) * zero).mean()
