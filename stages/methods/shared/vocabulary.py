"""Words of a vocabulary that may be preserved: those near a concept's prompt, spread over all degrees of nearness."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from stages.backbones.core.base import Backbone
from stages.control.mentions import mentions
from stages.control.state import Condition

Nearness = Literal["l2", "cosine"]
TOGETHER = 128  # words that are compared at once: encoded, a thousand of them may be gigabytes
ROUNDS = 300  # of k-means, at most


def read_words(path: Path, without: Sequence[str]) -> tuple[str, ...]:
    """The lines of a file that name none of the words `without`.

    FileNotFoundError without the file, ValueError if no line is left.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: the words that may be preserved, one a line")
    lines = map(str.strip, path.read_text(encoding="utf-8").splitlines())
    words = tuple(line for line in lines if line and not mentions(line, without))
    if not words:
        raise ValueError(f"{path}: no words in it but the concept's own")
    return words


def nearest(
    backbone: Backbone, condition: Condition, words: Sequence[str], many: int, nearness: Nearness = "l2"
) -> dict[str, float]:
    """The `many` words whose embeddings are nearest to the condition's one row, nearest first, and how near they are.

    Nearness is the negative distance of whole embeddings, padding included, or their cosine.
    """
    target, parts = condition.tensors["embeds"].flatten(1).float(), []  # in bf16 too many cosines are equal
    for start in range(0, len(words), TOGETHER):
        embeds = backbone.encode(words[start : start + TOGETHER]).tensors["embeds"].flatten(1).float()
        parts.append(
            cosine_similarity(embeds, target, dim=1) if nearness == "cosine" else -(embeds - target).norm(dim=1)
        )
    top = torch.cat(parts).topk(min(many, len(words)))
    return {words[i]: value for value, i in zip(top.values.tolist(), top.indices.tolist(), strict=True)}


def spread(near: dict[str, float], centres: int) -> list[str]:
    """The words nearest to the `centres` of a k-means over how near all are, nearest first; all if there are no more.

    The clusters are of nearness alone, one number a word, as in EAP's released code; two centres may share a word.
    """
    words, values = list(near), torch.tensor(list(near.values()), dtype=torch.float64)
    if len(words) <= centres:
        return words
    picked = {int((values - centre).abs().argmin()) for centre in means(values, centres)}
    return [words[i] for i in sorted(picked)]


def means(values: Tensor, k: int) -> Tensor:
    """The k centres, ascending, of a k-means over numbers (N,); Lloyd's rounds from evenly spaced ranks."""
    values = values.sort().values
    ranks = (torch.arange(k, dtype=torch.float64) + 0.5) * len(values) / k
    centres = values[ranks.long()]
    for _ in range(ROUNDS):
        cluster = torch.bucketize(values, (centres[1:] + centres[:-1]) / 2)
        sums, counts = torch.zeros(k, dtype=values.dtype), torch.bincount(cluster, minlength=k)
        sums = sums.index_add(0, cluster, values)
        moved = torch.where(counts > 0, sums / counts.clamp_min(1), centres)
        if torch.equal(moved, centres):
            break
        centres = moved
    return centres
