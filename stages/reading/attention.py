"""Reading how much the image attends to words, in any family, without ever holding a whole attention matrix.

Attention is read where every family computes it, at torch's scaled dot product, so that norms, rotary embedding and
padding masks are the network's own; only the concept's columns of the softmax are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from stages.backbones.core.base import Backbone
from stages.control.sites import Site
from stages.control.state import Condition, State


@dataclass(frozen=True)
class AttentionCall:
    """The arguments of one scaled dot product that decide the attention."""

    query: Tensor  # (B, H, N, d)
    key: Tensor  # (B, H, K, d)
    mask: Tensor | None = None  # added to the logits, or True for those that count: (B, H or 1, N or 1, K)
    scale: float | None = None  # of the logits; d ** -0.5 when None


def attention_maps(
    backbone: Backbone,
    state: State,
    condition: Condition,
    positions: Sequence[Sequence[int]],
    chunk: int = 1024,
    *,
    gradients: bool = False,
) -> tuple[Tensor, dict[Site, Tensor]]:
    """The prediction (B, ...), and how much each image token of a site attends to text tokens, (B, N) by site.

    Summed over `positions` and averaged over heads. Read in cross-attention if the network has it, else from the
    image's queries in joint attention. `positions` are rows of the condition's `embeds`, per prompt; a prompt without
    any gets zeros. `chunk` queries at a time; with `gradients` they pass to whatever made queries and keys. ValueError
    if attention has no text, or is not torch's scaled dot product.
    """
    if "embeds" not in condition.tensors:
        raise ValueError(f"{backbone.name} has no text in its attention")
    text = condition.tensors["embeds"].shape[1]
    keep = torch.zeros(len(condition), text, device=backbone.device)
    for row, columns in zip(keep, positions, strict=True):
        row[list(columns)] = 1
    sites = backbone.select("cross_attn", "attn", stream="image")
    joint = sites[0].kind == "attn"
    maps: dict[Site, Tensor] = {}

    def read(site: Site, call: AttentionCall) -> None:
        keys, columns = call.key.shape[-2], slice(None)
        if joint:
            if keys <= text:
                raise ValueError(f"{backbone.name} has no text in its attention")
            columns = slice(0, text) if backbone.TEXT_FIRST else slice(keys - text, None)
            call = _of_image(call, text, backbone.TEXT_FIRST)
        weights = keep[:, :keys]  # a family may leave out the padding of the whole batch
        maps[site] = attended(call, weights, columns, chunk=chunk)

    with torch.set_grad_enabled(gradients), _watching(backbone, sites, read):
        prediction = backbone.predict(state, condition)
    if not maps:
        raise ValueError(f"{backbone.name} does not compute its attention by torch's scaled dot product")
    return prediction, maps


def attended(call: AttentionCall, keep: Tensor, columns: slice = slice(None), *, chunk: int = 1024) -> Tensor:
    """Softmax attention (B, N) of each query to the keys, weighted by `keep` (B, C) and summed, mean over heads.

    The softmax is over all K keys, of which `columns` are the C that `keep` weighs. Float32, a chunk of queries at a
    time, so that no more than chunk x K logits exist at once.
    """
    query, mask = call.query, call.mask
    scale = query.shape[-1] ** -0.5 if call.scale is None else call.scale
    key, parts = call.key.float(), []
    for start in range(0, query.shape[-2], chunk):
        rows = slice(start, start + chunk)
        logits = query[..., rows, :].float() @ key.transpose(-1, -2) * scale
        if mask is not None:
            part = mask if mask.shape[-2] == 1 else mask[..., rows, :]
            logits = logits.masked_fill(~part, float("-inf")) if part.dtype == torch.bool else logits + part
        probability = (logits[..., columns] - logits.logsumexp(-1, keepdim=True)).exp()
        parts.append(torch.einsum("bhnc,bc->bn", probability, keep.to(probability)) / query.shape[1])
    return torch.cat(parts, dim=-1)


def _of_image(call: AttentionCall, text: int, first: bool) -> AttentionCall:
    """The call of the image's queries alone, in a sequence whose first or last `text` tokens are text."""

    def image(rows: Tensor) -> Tensor:
        return rows[..., text:, :] if first else rows[..., : rows.shape[-2] - text, :]

    mask = call.mask if call.mask is None or call.mask.shape[-2] == 1 else image(call.mask)
    return replace(call, query=image(call.query), mask=mask)


class _Attention(TorchFunctionMode):
    """Hands every scaled dot product to a function before it is computed."""

    def __init__(self, tell: Callable[[AttentionCall], None]) -> None:
        super().__init__()
        self.tell = tell

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is scaled_dot_product_attention:
            names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
            given = dict(zip(names, args, strict=False)) | kwargs
            self.tell(AttentionCall(given["query"], given["key"], given.get("attn_mask"), given.get("scale")))
        return func(*args, **kwargs)


@contextmanager
def _watching(backbone: Backbone, sites: Sequence[Site], read: Callable[[Site, AttentionCall], None]) -> Iterator[None]:
    """Calls `read` for the attention inside each site's module."""
    inside: list[Site] = []
    hooks = []
    for site in sites:
        module = backbone.net.get_submodule(backbone.addresses.tap(site).module)
        hooks.append(module.register_forward_pre_hook(lambda *_, site=site: inside.append(site)))
        hooks.append(module.register_forward_hook(lambda *_: inside.clear()))
    try:
        with _Attention(lambda call: read(inside[-1], call) if inside else None):
            yield
    finally:
        for hook in hooks:
            hook.remove()
