"""Cross-attention to a fixed text with fewer products: its keys and values folded into the two projections.

With K and V (T, c) the keys and values of one head, Q (c, C) its rows of the query's projection and O (C, c) its
columns of the output's,

    (x Q^T) K^T = x (K Q)^T    and    (p V) O^T = p (V O^T),

so that a token costs 4 C H T operations in place of 4 C^2 and the attention itself: a fifth at 20 tokens of text and
heads of 96 channels. K Q and V O^T are made once per picture. The other order of sums gives another rounding, of which
bf16 has plenty; float32 keeps the reference's order, and would gain little, since torch multiplies float32 by one
matrix per prompt at half oneDNN's rate.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.overrides import has_torch_function

from .heads import MANY_LOGITS, exponentials_
from .layers import serves_packed

PROJECTIONS = 1.0  # as large as so many times the two projections a folded text may be: it has to be read as well


@dataclass(frozen=True)
class FoldedText:
    """K Q (B, H T, C) with its bias (B, H T) and O V^T (B, C, H T) with its (C,) of every prompt.

    `mask` (B, 1, 1, T) marks real tokens and is None when all are.
    """

    heads: int
    queries: Tensor
    query_bias: Tensor
    outputs: Tensor
    output_bias: Tensor
    mask: Tensor | None

    @classmethod
    def of(cls, query: nn.Linear, output: nn.Linear, keys: Tensor, values: Tensor, mask: Tensor | None) -> FoldedText:
        """Fold `keys` and `values` (B, H, T, c) into the two projections, in their dtype."""
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
        """Read each prompt from its row of `x` (B, L, C); None where a logit is too large to be exponentiated."""
        logits = torch.baddbmm(self.query_bias[:, None], x.to(self.queries.dtype), self.queries.transpose(1, 2))
        weights = exponentials_(logits.unflatten(-1, (self.heads, -1)), self.mask)
        if weights is None:
            return None
        weights.div_(weights.sum(-1, keepdim=True))
        return torch.baddbmm(self.output_bias, weights.flatten(2), self.outputs.transpose(1, 2))


def folds(query: nn.Linear, output: nn.Linear, x: Tensor, keys: Tensor) -> bool:
    """Whether folding by `keys` (B, H, T, c) into bf16 is possible for `x` (B, L, C), and saves work."""
    prompts, heads, tokens, width = keys.shape
    if prompts * tokens > PROJECTIONS * width or prompts * x.shape[1] * heads * tokens > MANY_LOGITS:
        return False
    if not serves_packed(query, x) or not serves_packed(output, x) or has_torch_function((x,)):
        return False
    return query.weight.dtype == torch.bfloat16
