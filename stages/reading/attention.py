"""Reading how much the image attends to words, in any family, without ever holding a whole attention matrix.

Attention is read where every family computes it, at torch's scaled dot product, so that norms, rotary embedding and
padding masks are the network's own; only the concept's columns of the softmax are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from stages.backbones.core.base import Backbone, Condition, State
from stages.control.sites import Site

Tell = Callable[[Tensor, Tensor, Tensor | None, float | None], None]  # query, key, mask, scale


def attention_maps(
    backbone: Backbone, state: State, condition: Condition, positions: Sequence[Sequence[int]], chunk: int = 1024
) -> tuple[Tensor, dict[Site, Tensor]]:
    """The prediction, and how much each image token of a site attends to text tokens.

    Maps are (B, N), summed over `positions`, mean over heads: of cross-attention where the network has it, of the
    image's queries in joint attention elsewhere. `positions` are of the condition's embeds, per row; a row of none gets
    zeros. `chunk` queries at a time. ValueError where attention has no text, or is not torch's scaled dot product.
    """
    if "embeds" not in condition.tensors:
        raise ValueError(f"{backbone.name} has no text in its attention")
    text = condition.tensors["embeds"].shape[1]
    keep = torch.zeros(len(condition), text, device=backbone.device)
    for row, columns in zip(keep, positions, strict=True):
        row[list(columns)] = 1
    sites = backbone.select("cross_attn", "attn", stream="image")
    joint = sites[0].kind == "attn"
    found: dict[Site, Tensor] = {}

    def read(site: Site, query: Tensor, key: Tensor, mask: Tensor | None, scale: float | None) -> None:
        if joint:
            columns = slice(0, text) if backbone.TEXT_FIRST else slice(key.shape[-2] - text, None)
            if key.shape[-2] <= text:
                raise ValueError(f"{backbone.name} has no text in its attention")
            query = query[..., text:, :] if backbone.TEXT_FIRST else query[..., : query.shape[-2] - text, :]
            mask = None if mask is None else _rows(mask, text, backbone.TEXT_FIRST)
        else:
            columns = slice(None)
        kept = keep[:, : key.shape[-2]]  # a family may leave out what pads the whole batch
        found[site] = attended(query, key, kept, columns, mask=mask, scale=scale, chunk=chunk)

    with torch.no_grad(), _watching(backbone, sites, read):
        prediction = backbone.predict(state, condition)
    if not found:
        raise ValueError(f"{backbone.name} does not compute its attention by torch's scaled dot product")
    return prediction, found


def attended(
    query: Tensor,
    key: Tensor,
    keep: Tensor,
    columns: slice = slice(None),
    *,
    mask: Tensor | None = None,
    scale: float | None = None,
    chunk: int = 1024,
) -> Tensor:
    """Softmax attention (B, N) of queries (B, H, N, d) to the keys (B, H, K, d) that `keep` (B, C) weighs.

    The softmax is over all keys, of which `columns` are the C that `keep` speaks of. Float32, a chunk of queries at a
    time, so that no more than chunk x K logits exist at once.
    """
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    key, parts = key.float(), []
    for start in range(0, query.shape[-2], chunk):
        rows = slice(start, start + chunk)
        logits = query[..., rows, :].float() @ key.transpose(-1, -2) * scale
        if mask is not None:
            part = mask if mask.shape[-2] == 1 else mask[..., rows, :]
            logits = logits.masked_fill(~part, float("-inf")) if part.dtype == torch.bool else logits + part
        probability = (logits[..., columns] - logits.logsumexp(-1, keepdim=True)).exp()
        parts.append(torch.einsum("bhnc,bc->bn", probability, keep.to(probability)) / query.shape[1])
    return torch.cat(parts, dim=-1)


def _rows(mask: Tensor, text: int, first: bool) -> Tensor:
    if mask.shape[-2] == 1:
        return mask
    return mask[..., text:, :] if first else mask[..., : mask.shape[-2] - text, :]


class _Attention(TorchFunctionMode):
    """Hands queries and keys of every scaled dot product to a function before it is computed."""

    def __init__(self, tell: Tell) -> None:
        super().__init__()
        self.tell = tell

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is scaled_dot_product_attention:
            names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
            given = dict(zip(names, args, strict=False)) | kwargs
            self.tell(given["query"], given["key"], given.get("attn_mask"), given.get("scale"))
        return func(*args, **kwargs)


@contextmanager
def _watching(backbone: Backbone, sites: Sequence[Site], read: Callable[..., None]) -> Iterator[None]:
    """Calls `read(site, query, key, mask, scale)` for the attention inside each site's module."""
    inside: list[Site] = []
    hooks = []
    for site in sites:
        module = backbone.net.get_submodule(backbone.tap(site).module)
        hooks.append(module.register_forward_pre_hook(lambda *_, site=site: inside.append(site)))
        hooks.append(module.register_forward_hook(lambda *_: inside.clear()))
    try:
        with _Attention(lambda *given: read(inside[-1], *given) if inside else None):
            yield
    finally:
        for hook in hooks:
            hook.remove()
