"""What attacks add to a metric's file: the rate at which each brought the concept back, and the literature's rates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch

from stages.metrics.base import Value, rate
from stages.metrics.intervals import number_prompts
from stages.store.samples import BEFORE


def add_attacks(content: dict[str, Any], attacked: Mapping[str, Any]) -> None:
    """Adds the rate at which each attack brought the concept back, as `attack_rate`, to a metric's content."""
    seen = attacked["seen"]
    content["rows"] += [row | {"metric": "attack_rate"} for row in attacked["rows"] if row["metric"] == f"{seen}_rate"]
    content["samples"] |= {name: {"attack": outcomes[seen]} for name, outcomes in attacked["samples"].items()}
    if "evidence" in attacked:
        content["evidence"] |= attacked["evidence"]


def add_successes(content: dict[str, Any], before: Mapping[str, Any], prompts: Mapping[str, Sequence[str]]) -> None:
    """Adds what the literature reports of attacks: `pre_asr`, the share of pictures that show the concept although
    nothing attacks, and `asr`, of those that show it then or under attack, both of all N.

    `content` has the attacks already; `prompts` says what each attack attacked, picture by picture.
    """
    for name, asked in prompts.items():
        samples = content["samples"][name]
        samples["before"] = before["samples"][f"{name}/{BEFORE}"][before["seen"]]
        for metric, value in successes(samples["before"], samples["attack"], asked).items():
            content["rows"].append({"prompts": name, "metric": metric} | asdict(value))


def successes(
    before: Sequence[float | None], after: Sequence[float | None], prompts: Sequence[str]
) -> dict[str, Value]:
    """`pre_asr` and `asr` from N verdicts without and under attack, and the prompts that were attacked."""
    pre, post = (torch.tensor([math.nan if v is None else float(v) for v in values]) for values in (before, after))
    groups = number_prompts(prompts)
    return {"pre_asr": rate(pre, groups), "asr": rate(torch.maximum(pre, post), groups)}
