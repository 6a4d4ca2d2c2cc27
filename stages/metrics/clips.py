"""What a clip shows, out of what its frames show: one rule for every detector.

A clip shows a thing if any of its frames does. The share of its frames that do, and the longest run of them as a share
of the clip, say whether it flickers. A picture has the first of the three alone.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from stages.metrics.base import Better, Column, Value, change, rate, rate_change
from stages.metrics.intervals import bootstrap
from stages.metrics.samples import Samples

SHARES = ("frame_share", "run_share")  # of a clip's frames: all that show it, the longest run of them


def verdict_names(name: str, samples: Samples) -> tuple[str, ...]:
    """The outcomes that `verdicts` answers with."""
    return (name, *(f"{name}_{share}" for share in SHARES)) if samples.images.ndim == 5 else (name,)


def verdicts(name: str, frames: Tensor, samples: Samples) -> dict[str, Tensor]:
    """The outcomes of `verdict_names`, (N,) each, from the frames' (N, F) of 1 and 0.

    NaN stands for a frame without an answer: unless another frame shows it, the clip has no answer; it has no shares.
    """
    frames = frames.double()
    shown, unknown = (frames == 1).any(1), frames.isnan().any(1)
    shares = frames.mean(1), torch.where(unknown, torch.nan, longest_run(frames == 1) / frames.shape[1])
    seen = torch.where(shown, 1.0, torch.where(unknown, torch.nan, 0.0).double())
    return dict(zip(verdict_names(name, samples), (seen, *shares), strict=False))


def longest_run(frames: Tensor) -> Tensor:
    """The length of the longest run of ones in each row of (N, F) bool, (N,)."""
    length = best = torch.zeros(len(frames), dtype=torch.float64)
    for frame in frames.unbind(1):
        length = torch.where(frame, length + 1, 0)
        best = torch.maximum(best, length)
    return best


def rates(
    edited: Mapping[str, Tensor], original: Mapping[str, Tensor] | None, groups: Tensor, *, seed: int, draws: int
) -> dict[str, Value]:
    """A rate of each outcome (N,), `name_rate`, or the mean of a share, under its own name.

    With an original, the change of each, too. `groups` (N,) numbers the prompts.
    """
    values: dict[str, Value] = {}
    changes: dict[str, Value] = {}
    settings = {"seed": seed, "draws": draws}
    for name, outcomes in edited.items():
        share = name.endswith(SHARES)
        values[name if share else f"{name}_rate"] = (
            mean(outcomes, groups, **settings) if share else rate(outcomes, groups)
        )
        if original is not None:
            changes[f"{name}_change" if share else f"{name}_rate_change"] = (
                change(outcomes, original[name], groups, **settings)
                if share
                else rate_change(outcomes, original[name], groups)
            )
    return values | changes


def mean(shares: Tensor, groups: Tensor, *, seed: int, draws: int) -> Value:
    """The mean of shares (N,) with the interval of a bootstrap over prompts; NaN does not count."""
    n = int((~shares.isnan()).sum())
    return Value(float(shares.double().nanmean()), *bootstrap(shares, groups=groups, seed=seed, draws=draws), n)


def share_columns(name: str, label: str = "concept") -> tuple[Column, ...]:
    """The columns of both shares of a concept, for its prompts; tables of pictures have no such numbers."""
    aims: tuple[tuple[Better, str], ...] = (("low", "erase"), ("high", "learn"))
    heads = (f"Frames with the {label}", f"Longest run with the {label}")
    return tuple(
        Column("concept", f"{name}_{share}", head, better, aim=aim)
        for share, head in zip(SHARES, heads, strict=True)
        for better, aim in aims
    )
