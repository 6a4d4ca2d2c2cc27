"""Numbers that are not finite end a job: they are never written, measured or exported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

REASONS = (
    "an autoencoder or a text encoder that overflows in float16 (force_upcast: true in vae/config.json, or dtype: "
    "bfloat16 or float32), "
    "a training that diverged (a lower learning rate), or weights that are not finite themselves"
)
DIVERGED = "a training that diverged (a lower learning rate), or values too large for the dtype"
NAMED = 3  # tensors in a message


def finite(values: Tensor) -> Tensor:
    """Which rows of (N, ...) are finite throughout, (N,) bool."""
    return torch.isfinite(values).flatten(1).all(1) if values.ndim > 1 else torch.isfinite(values)


def check_rows(
    what: str, values: Tensor, name: str, prompts: Sequence[str], seeds: Sequence[int], reasons: str = REASONS
) -> None:
    """FloatingPointError for the first row of (N, ...) that is not finite, with its prompt, seed and backbone `name`.

    `what` says what a row is (picture, latent, trajectory); `reasons` where to look.
    """
    bad = (~finite(values)).nonzero().flatten().tolist()
    if bad:
        prompt, seed = prompts[bad[0]], seeds[bad[0]]
        raise FloatingPointError(
            f"{name}: the {what} of prompt {prompt!r}, seed {seed}, is not finite ({len(bad)} of {len(values)}); "
            f"likely reasons: {reasons}"
        )


def check_tensors(what: str, tensors: Mapping[str, Tensor], reasons: str = DIVERGED) -> None:
    """FloatingPointError with the names of the tensors, of any shape, that are not finite."""
    bad = [name for name, value in tensors.items() if value.is_floating_point() and not torch.isfinite(value).all()]
    if bad:
        more = f" and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
        raise FloatingPointError(
            f"{what}: not finite: {', '.join(map(repr, bad[:NAMED]))}{more}; likely reasons: {reasons}"
        )
