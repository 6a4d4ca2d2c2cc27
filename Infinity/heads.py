"""softmax(q k^T) v over heads: torch's kernel, or, without gradients on a CPU, the fastest of three other ways.

`attend_to_past` takes the first row that fits, for L queries and T keys of H heads and B batch rows:

| dtype | logits of one head (L T) | largest logit | path |
|---|---|---|---|
| bf16 | from 2^8, and 64 queries of all heads make at most 2^22 logits | 8 | one product over all heads, exp as it is |
| float32 | 2^8 to 2^14, and the same | any | one product over all heads, torch's softmax |
| float32, bf16 | from 2^14 | any | logits in float32 by a grouped convolution, batch row by batch row |
| any | any | any | torch's kernel |

`attend_to_text` takes one product over all heads from 2^8 logits of a head to 2^22 of all, if no logit exceeds 8 (bf16)
or 32 (float32), and torch's kernel otherwise. The kernel also serves gradients, GPUs, float16, processors on which
oneDNN does not multiply the dtype (bf16 without AVX-512), and torch function modes, which may be watching attention.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import has_torch_function

from .linear import has_onednn, multiplies

FEW_LOGITS = 2**8  # logits of one head; below this, torch's kernel is the fastest
FEW_GROUPED = 2**14  # logits of one head; below this, a product over all heads is faster than the convolution
MANY_LOGITS = 2**22  # logits in memory at one time
FEW_QUERIES = 64  # queries at one time; with fewer, the keys are read too often
# Up to this logit, the exponential needs no maximum taken off. In bf16 it bounds the rounding of a logit: 8 is rounded
# by at most 1/64.
LARGE_LOGIT = {torch.float32: 32.0, torch.bfloat16: 8.0}


def split(x: Tensor, heads: int) -> Tensor:
    """Separate the heads: (B, L, H c) to (B, H, L, c)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def merge(x: Tensor) -> Tensor:
    """Join the heads: (B, H, L, c) to (B, L, H c)."""
    return x.transpose(1, 2).flatten(2)


def attend(q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None = None, scale: float = 1.0) -> Tensor:
    """softmax(scale q k^T) v by torch's kernel, (B, H, L, c), for q (B, H, L, c) and k, v (B, H, T, c).

    `mask` broadcasts to (B, H, L, T) and is True for keys that may be seen.
    """
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)


def attend_to_past(q: Tensor, k: Tensor, v: Tensor, bound: float) -> Tensor:
    """softmax(q k^T) v, heads joined, (B, L, H c), for q (B, H, L, c) and k, v (B, H, T, c), all keys visible.

    `bound` is the largest logit possible, and only chooses the path (the module's table).
    """
    batch, heads, length, width = q.shape
    tokens = k.shape[2]
    if length * tokens < FEW_LOGITS or not _has_products(q):
        return merge(attend(q, k, v))
    together = MANY_LOGITS // (batch * heads * tokens)  # queries of all heads at one time
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
    """softmax(q k^T / sqrt(c)) v, heads joined, (B, L, H c); q, k, v and `mask` as for `attend`."""
    scale = q.shape[-1] ** -0.5
    each = q.shape[2] * k.shape[2]
    if not FEW_LOGITS <= each <= MANY_LOGITS // (q.shape[0] * q.shape[1]) or not _has_products(q):
        return merge(attend(q, k, v, mask=mask, scale=scale))
    flat = torch.baddbmm(q.new_empty(1), q.flatten(0, 1), k.flatten(0, 1).transpose(1, 2), beta=0, alpha=scale)
    weights = exponentials_(flat.unflatten(0, q.shape[:2]), mask)
    if weights is None:
        return merge(attend(q, k, v, mask=mask, scale=scale))
    y = q.new_empty(q.shape[0], q.shape[2], *q.shape[1::2])
    _write_weighted(weights, v, y.transpose(1, 2))
    return y.flatten(2)


def exponentials_(logits: Tensor, mask: Tensor | None) -> Tensor | None:
    """exp of `logits` in place, 0 for keys that `mask` hides; None, `logits` intact, if one exceeds `LARGE_LOGIT`."""
    least, most = torch.aminmax(logits)
    if not max(-float(least), float(most)) <= LARGE_LOGIT[logits.dtype]:
        return None
    return logits.exp_() if mask is None else logits.exp_().mul_(mask)


def _has_products(q: Tensor) -> bool:
    """Whether oneDNN may multiply `q`: no gradients, a dtype that it has here, no function mode watching attention."""
    if torch.is_grad_enabled() or not has_onednn(q):
        return False
    return multiplies(q.dtype) and not has_torch_function((q,))


def _write_weighted(weights: Tensor, v: Tensor, out: Tensor) -> None:
    """Write into `out` (B, H, L, c) the mean of `v` (B, H, T, c), weighted by `weights` (B, H, L, T) of any sum."""
    torch.div(torch.matmul(weights, v), weights.sum(-1, keepdim=True), out=out)


def _write_grouped(q: Tensor, k: Tensor, v: Tensor, out: Tensor) -> None:
    """Write into `out` (L, H, c) the attention of `q` (H, L, c) to `k`, `v` (H, T, c), logits in float32."""
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

    A 1 x 1 convolution whose groups are the heads: the only float32 product of oneDNN that takes all heads at once.
    """
    length, heads, inputs = x.shape
    image = x.reshape(1, length, 1, heads * inputs).permute(0, 3, 1, 2)  # channels last
    y = torch.mkldnn_convolution(image, weight.reshape(-1, inputs, 1, 1), None, (0, 0), (1, 1), (1, 1), heads)
    return y.permute(0, 2, 3, 1).reshape(length, heads, -1)
