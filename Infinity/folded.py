"""Cross-attention to a fixed text with fewer products: its keys and values folded into the two projections.

With K and V (T, c) the keys and values of one head, Q (c, C) its rows of the query's projection and O (C, c) its
columns of the output's,

    (x Q^T) K^T = x (K Q)^T    and    (p V) O^T = p (V O^T),

so that a token costs 4 C H T operations in place of 4 C^2 and the attention itself: a fifth at 20 tokens of text and
heads of 96 channels. K Q and V O^T are made once per picture. Sums in another order give another rounding.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.overrides import has_torch_function

from .heads import LARGE_LOGIT, MANY_LOGITS
from .layers import multiply, pack, serves_packed

MANY_PROMPTS = 8  # whose folded texts take more memory than they are worth
SHARE_OF_HEAD = 0.5  # tokens of text per channel of a head, from which on little is saved


@dataclass(frozen=True)
class FoldedText:
    """K Q and V O^T of each prompt with their biases, and the mask (B, 1, 1, T) of real tokens, None when all are."""

    heads: int
    queries: _Products
    outputs: _Products
    mask: Tensor | None

    @classmethod
    def of(cls, query: nn.Linear, output: nn.Linear, keys: Tensor, values: Tensor, mask: Tensor | None) -> FoldedText:
        """Fold `keys` and `values` (B, H, T, c) into the two projections, in their dtype."""
        batch, heads, tokens, width = keys.shape
        dtype, scale, unused = query.weight.dtype, width**-0.5, query.weight.new_empty(1)
        k, v = (one.to(dtype).transpose(0, 1).flatten(1, 2) for one in (keys, values))  # (H, B T, c)
        columns = query.weight.unflatten(0, (heads, width))
        from_x = torch.baddbmm(unused, k, columns, beta=0, alpha=scale).unflatten(1, (batch, tokens))
        shifts = torch.baddbmm(unused, k, query.bias.to(dtype).view(heads, width, 1), beta=0, alpha=scale)
        rows = output.weight.unflatten(1, (heads, width)).transpose(0, 1)
        to_y = torch.bmm(rows, v.transpose(1, 2)).unflatten(2, (batch, tokens))
        return cls(
            heads,
            _Products.of(
                from_x.transpose(0, 1).flatten(1, 2), shifts.view(heads, batch, tokens).transpose(0, 1).flatten(1)
            ),
            _Products.of(to_y.permute(2, 1, 0, 3).flatten(2), output.bias.to(dtype).expand(batch, -1)),
            mask,
        )

    def attend(self, x: Tensor) -> Tensor | None:
        """Read each prompt from its row of `x` (B, L, C); None where a logit is too large to be exponentiated."""
        logits = self.queries(x)
        least, most = torch.aminmax(logits)
        if not max(-float(least), float(most)) <= LARGE_LOGIT[logits.dtype]:
            return None
        weights = logits.exp_().unflatten(-1, (self.heads, -1))
        if self.mask is not None:
            weights.mul_(self.mask)
        weights.div_(weights.sum(-1, keepdim=True))
        return self.outputs(weights.flatten(2))


@dataclass(frozen=True)
class _Products:
    """One matrix per row of a batch, (B, o, i), and its bias (B, o); float32 keeps each as `multiply` wants it."""

    weights: Tensor | tuple[Tensor, ...]
    bias: Tensor

    @classmethod
    def of(cls, weights: Tensor, bias: Tensor) -> _Products:
        together = weights.dtype != torch.float32  # of float32, oneDNN makes single products only
        return cls(weights if together else tuple(map(pack, weights)), bias)

    def __call__(self, x: Tensor) -> Tensor:
        """(B, L, i) to (B, L, o)."""
        x = x.to(self.bias.dtype)
        if isinstance(self.weights, Tensor):
            return torch.baddbmm(self.bias[:, None], x, self.weights.transpose(1, 2))
        return torch.stack(list(map(multiply, x, self.weights, self.bias)))


def folds(query: nn.Module, output: nn.Module, x: Tensor, keys: Tensor) -> bool:
    """Whether folding by `keys` (B, H, T, c) is asked for, possible for `x` (B, L, C), and saves work."""
    prompts, heads, tokens, width = keys.shape
    if prompts > MANY_PROMPTS or tokens > SHARE_OF_HEAD * width or prompts * x.shape[1] * heads * tokens > MANY_LOGITS:
        return False
    plain = serves_packed(query, x) and serves_packed(output, x) and not has_torch_function((x,))
    return plain and query.packed.folds and output.packed.folds
