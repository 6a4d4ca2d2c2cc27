"""Backbones that were never shown a concept: what an oracle of it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.params.concept import Concept
from stages.params.load import load_params


def excluded(concept: Concept) -> str:
    """The concept's labels, colour first (`red circle`), which the world leaves out.

    ValueError for a concept without labels, or one that is to be learned.
    """
    if concept.aim != "erase":
        raise ValueError(f"an oracle never saw what is to be erased, and {concept.name} is to be learned")
    if not concept.target:
        raise ValueError(f"an oracle needs a target of {concept.name}: the labels that the world leaves out")
    if not all(isinstance(value, str) for value in concept.target.values()):
        raise ValueError(f"{concept.name} is several things, and a world leaves out one")
    return " ".join(concept.target[label] for label in sorted(concept.target))


def twin(oracle: str | None, concept: Concept, root: Path | str = "params") -> str | None:
    """The backbone that a file names as its `oracle`, if it was never shown the concept; None if one must be trained.

    ValueError as of `excluded`.
    """
    left_out = excluded(concept)
    return oracle if oracle and left_out in never_shown(load_params("backbones", oracle, root)) else None


def never_shown(content: Mapping[str, Any]) -> tuple[str, ...]:
    """The concepts that the training of a backbone leaves out, from the content of its file."""
    left_out = content.get("pretrain", {}).get("exclude") or ()
    return (left_out,) if isinstance(left_out, str) else tuple(left_out)


def check_oracle(content: Mapping[str, Any], where: str, root: Path | str = "params") -> None:
    """Raises a ValueError when the `oracle` of a backbone's file is no twin of it."""
    if (name := content.get("oracle")) is None:
        return
    try:
        other = load_params("backbones", name, root)
    except ValueError as error:
        raise ValueError(f"{where}: oracle: {error}") from None
    unlike = [key for key in ("world", "class", "build") if other.get(key) != content.get(key)]
    if unlike:
        raise ValueError(
            f"{where}: oracle: {name} has another {unlike[0]}, and only a twin tells what an erasure leaves"
        )
    if not never_shown(other):
        raise ValueError(f"{where}: oracle: {name} was shown everything; name one with pretrain: exclude")
