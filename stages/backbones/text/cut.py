"""Prompts of more tokens than the text encoders read."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from stages.backbones.core.base import Backbone

log = logging.getLogger(__name__)


def cut(backbone: Backbone, prompts: Sequence[str]) -> list[int]:
    """How many tokens of each prompt reach no text encoder, as the backbone is now: aliases count with their words."""
    attached = backbone.attached
    return backbone.texts.cut([attached.write_out(attached.rewrite(prompt)).text for prompt in prompts])


def cut_prompts(backbone: Backbone, sets: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, int]:
    """How many different prompts of each set the text encoder does not read to their end; a line in the log for each.

    What stands beyond the encoder's last token changes no picture.
    """
    counts = {}
    for name, rows in sets.items():
        prompts = list(dict.fromkeys(row["prompt"] for row in rows))
        lost = [tokens for tokens in cut(backbone, prompts) if tokens]
        counts[name] = len(lost)
        if lost:
            log.warning(
                "%s: %d of %d prompts are longer than %s reads; what follows changes nothing (up to %d tokens)",
                *(name, len(lost), len(prompts), backbone.name, max(lost)),
            )
    return counts
