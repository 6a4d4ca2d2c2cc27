"""softmax(q k^T) v over heads: by torch's own kernel, and without gradients on a CPU by products done sooner."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import has_torch_function

from .layers import has_onednn, multiplies

FEW_LOGITS = 2**8  # of one head, below which torch's attention is soonest done, measured
FEW_GROUPED = 2**14  # likewise, below which float32 products of all heads are sooner than a convolution
MANY_LOGITS = 2**22  # that exist at once
FEW_QUERIES = 64  # fewer at a time, and all keys are read again too often
# A largest logit up to this need not be taken off before the exponential; bf16 rounds it by at most 1/64, and results
# are then off by .4 %, by torch's own kernel .2 %.
LARGE_LOGIT = {torch.float32: 32.0, torch.bfloat16: 8.0}


def split(x: Tensor, heads: int) -> Tensor:
    """Heads apart, (B, L, H c) to (B, H, L, c)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def merge(x: Tensor) -> Tensor:
    """Heads side by side, (B, H, L, c) to (B, L, H c)."""
    return x.transpose(1, 2).flatten(2)


def attend(q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None = None, scale: float = 1.0) -> Tensor:
    """softmax(scale q k^T) v over heads (B, H, L, c); `mask` is True where a key may be seen."""
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)


def attend_to_past(q: Tensor, k: Tensor, v: Tensor, bound: float) -> Tensor:
    """softmax(q k^T) v without a mask, heads merged, (B, L, H c); no logit exceeds `bound`.

    Without gradients on a CPU, bf16 is multiplied over all heads at once where it holds the logits well. Else many
    logits are made in float32 by a grouped convolution, in two thirds of the time of torch's own kernel, few of float32
    by torch's products, and what remains is left to that kernel.
    """
    batch, heads, length, width = q.shape
    tokens = k.shape[2]
    if length * tokens < FEW_LOGITS or not _has_products(q):
        return merge(attend(q, k, v))
    together = MANY_LOGITS // (batch * heads * tokens)  # queries of all heads whose logits stay near
    near = together >= min(length, FEW_QUERIES)
    at_once = q.dtype == torch.bfloat16 and near and bound <= LARGE_LOGIT[q.dtype]
    if not at_once and length * tokens < FEW_GROUPED:
        if q.dtype == torch.float32 and near:
            return merge(torch.matmul(torch.matmul(q, k.transpose(-2, -1)).softmax(-1), v))
        return merge(attend(q, k, v))
    y = q.new_empty(batch, length, heads, width)
    if at_once:
        for queries, out in zip(q.split(together, dim=2), y.split(together, dim=1), strict=True):
            _write_weighted(torch.matmul(queries, k.transpose(-2, -1)).exp_(), v, out.transpose(1, 2))
    else:
        for row in range(batch):
            _write_grouped(q[row], k[row], v[row], y[row])
    return y.flatten(2)


def attend_to_text(q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """softmax(q k^T / sqrt(c)) v, heads (B, H, L, c) merged to (B, L, H c); `mask` as for `attend`.

    Without gradients on a CPU, all heads are multiplied at once, unless a logit is too large for its exponential.
    """
    scale = q.shape[-1] ** -0.5
    each = q.shape[2] * k.shape[2]
    if not FEW_LOGITS <= each <= MANY_LOGITS // (q.shape[0] * q.shape[1]) or not _has_products(q):
        return merge(attend(q, k, v, mask=mask, scale=scale))
    flat = torch.baddbmm(q.new_empty(1), q.flatten(0, 1), k.flatten(0, 1).transpose(1, 2), beta=0, alpha=scale)
    weights = exponentials_(flat.unflatten(0, q.shape[:2]), mask)  # of logits that were rounded once
    if weights is None:
        return merge(attend(q, k, v, mask=mask, scale=scale))
    y = q.new_empty(q.shape[0], q.shape[2], *q.shape[1::2])
    _write_weighted(weights, v, y.transpose(1, 2))
    return y.flatten(2)


def exponentials_(logits: Tensor, mask: Tensor | None) -> Tensor | None:
    """exp of `logits` in place, zero where `mask` is False; None, and nothing done, where one is too large for that."""
    least, most = torch.aminmax(logits)
    if not max(-float(least), float(most)) <= LARGE_LOGIT[logits.dtype]:
        return None
    return logits.exp_() if mask is None else logits.exp_().mul_(mask)


def _has_products(q: Tensor) -> bool:
    """Whether oneDNN multiplies here; not for gradients, and not while a function mode may be watching attention."""
    if torch.is_grad_enabled() or not has_onednn(q):
        return False
    return multiplies(q.dtype) and not has_torch_function((q,))


def _write_weighted(weights: Tensor, v: Tensor, out: Tensor) -> None:
    """The mean of `v` (B, H, T, c) by `weights` (B, H, L, T) into `out` (B, H, L, c).

    Weights are exponentials of logits up to `LARGE_LOGIT`, so that no largest one had to be taken off.
    """
    torch.div(torch.matmul(weights, v), weights.sum(-1, keepdim=True), out=out)


def _write_grouped(q: Tensor, k: Tensor, v: Tensor, out: Tensor) -> None:
    """Attention of one row, `q` (H, L, c) to `k`, `v` (H, T, c) into `out` (L, H, c), logits in float32."""
    heads, length, _ = q.shape
    tokens = k.shape[1]
    some = min(heads, max(1, MANY_LOGITS // (length * tokens)))
    step = max(1, MANY_LOGITS // (some * tokens))
    for first in range(0, heads, some):
        part = slice(first, first + some)
        for queries, y in zip(q[part].split(step, dim=1), out[:, part].split(step), strict=True):
            weights = _multiply_groups(queries.transpose(0, 1).float(), k[part].float())
            torch.softmax(weights, -1, out=weights)
            y.copy_(_multiply_groups(weights.to(v.dtype), v[part].transpose(1, 2)))


def _multiply_groups(x: Tensor, weight: Tensor) -> Tensor:
    """`x` (L, H, i) times `weight` (H, o, i) head by head, (L, H, o).

    A 1 x 1 convolution with heads as groups: the only product that oneDNN makes of float32 for all heads at once.
    """
    length, heads, inputs = x.shape
    image = x.reshape(1, length, 1, heads * inputs).permute(0, 3, 1, 2)  # channels last
    y = torch.mkldnn_convolution(image, weight.reshape(-1, inputs, 1, 1), None, (0, 0), (1, 1), (1, 1), heads)
    return y.permute(0, 2, 3, 1).reshape(length, heads, -1)
