"""Cross-attention to a fixed text with fewer operations: the text is folded into the two projections.

For one head with keys and values K, V (T, c), its rows Q (c, C) of the query projection and its columns O (C, c) of
the output projection,

    (x Q^T) K^T = x (K Q)^T    and    (p V) O^T = p (V O^T).

K Q and V O^T are computed once per picture. A token of x then costs 4 C H T operations instead of 4 C^2 and the
attention: less if all tokens of text together are fewer than the channels of a head.

Only packed bf16 weights are folded (`packed_weights`, a CPU whose oneDNN multiplies bf16), because the sums are rounded
in another order. Float32 keeps the order of the reference and would gain little: torch multiplies float32 by one matrix
per prompt without oneDNN. On a processor without AVX-512 nothing is folded.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.overrides import has_torch_function

from .heads import MANY_LOGITS, exponentials_
from .linear import serves_packed

PROJECTIONS = 1.0  # fold only while the folded text is at most this many times as large as the two projections


@dataclass(frozen=True)
class FoldedText:
    """B prompts of T tokens, folded into the projections of one layer."""

    heads: int
    queries: Tensor  # K Q / sqrt(c), (B, H T, C)
    query_bias: Tensor  # (B, H T)
    outputs: Tensor  # O V^T, (B, C, H T)
    output_bias: Tensor  # (C,)
    mask: Tensor | None  # (B, 1, 1, T), True for real tokens; None if all are

    @classmethod
    def of(cls, query: nn.Linear, output: nn.Linear, keys: Tensor, values: Tensor, mask: Tensor | None) -> FoldedText:
        """Fold `keys` and `values` (B, H, T, c) into `query` and `output`, in their dtype; `mask` (B, 1, 1, T)."""
        batch, heads, tokens, width = keys.shape
        dtype, scale, unused = query.weight.dtype, width**-0.5, query.weight.new_empty(1)
        k, v = (one.to(dtype).transpose(0, 1).flatten(1, 2) for one in (keys, values))  # (H, B T, c)
        from_x = torch.baddbmm(unused, k, query.weight.unflatten(0, (heads, width)), beta=0, alpha=scale)
        bias = torch.baddbmm(unused, k, query.bias.to(dtype).view(heads, width, 1), beta=0, alpha=scale)
        to_y = torch.bmm(output.weight.unflatten(1, (heads, width)).transpose(0, 1), v.transpose(1, 2))
        return cls(
            heads,
            from_x.unflatten(1, (batch, tokens)).transpose(0, 1).flatten(1, 2),
            bias.view(heads, batch, tokens).transpose(0, 1).flatten(1),
            to_y.unflatten(2, (batch, tokens)).permute(2, 1, 0, 3).flatten(2),
            output.bias.to(dtype),
            mask,
        )

    def attend(self, x: Tensor) -> Tensor | None:
        """Cross-attention of `x` (B, L, C) to the prompts, (B, L, C); None if a logit exceeds `LARGE_LOGIT`."""
        logits = torch.baddbmm(self.query_bias[:, None], x.to(self.queries.dtype), self.queries.transpose(1, 2))
        weights = exponentials_(logits.unflatten(-1, (self.heads, -1)), self.mask)
        if weights is None:
            return None
        weights.div_(weights.sum(-1, keepdim=True))
        return torch.baddbmm(self.output_bias, weights.flatten(2), self.outputs.transpose(1, 2))


def folds(query: nn.Linear, output: nn.Linear, x: Tensor, keys: Tensor) -> bool:
    """Whether a text with `keys` (B, H, T, c) can be folded for `x` (B, L, C), and folding saves work."""
    prompts, heads, tokens, width = keys.shape
    if prompts * tokens > PROJECTIONS * width or prompts * x.shape[1] * heads * tokens > MANY_LOGITS:
        return False
    if not serves_packed(query, x) or not serves_packed(output, x) or has_torch_function((x,)):
        return False
    return query.weight.dtype == torch.bfloat16
