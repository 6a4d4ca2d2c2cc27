"""What a method learns from for one concept, checked before anything runs: it is there, right, and not measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.params import check
from stages.params.concept import Concept
from stages.params.datasets import has, select
from stages.params.layers import kind_of, method_params
from stages.params.pairs import CONCEPT, of_concept, read_texts
from stages.params.source import class_fields
from stages.params.types import OnDisk, paths
from stages.params.within import named, referred


def check_data(method: str, backbone: str, concept: Concept, sets: Sequence[str], root: Path | str = "params") -> None:
    """Raises a ValueError when files that a method, or one fitted within it, names for a concept are missing or hold
    something else, or when one of their prompts is measured, too, in one of the sets."""
    where, content = named(method), method_params(method, backbone, root, concept.kind)
    for key, other in referred(content, root):
        try:
            check_data(other, backbone, concept, sets, root)
        except ValueError as error:
            raise ValueError(f"{where}: {key}: {error}") from None
    for key, name, mark in _named(content, where, root):
        path = of_concept(name, concept.name)
        check.check_path(path, mark, f"{where}: {key}: for the concept {concept.name}", root)
        if mark.holds in ("prompts", "pairs"):
            found = check.find_path(path, root)
            prompts, twins = read_texts(found)
            both = measured(concept, sets, root) & {*prompts, *twins}
            if both:
                raise ValueError(
                    f"{where}: {key}: {path}: {min(both)!r} is measured on {concept.dataset}, too; take it out of one"
                )


def lacks_data(method: str, backbone: str, concept: str, root: Path | str = "params") -> bool:
    """Whether a method, or one fitted within it, names a file or folder of the concept, by `{concept}`, that is not
    there."""
    where, content = named(method), method_params(method, backbone, root, kind_of(concept, root))
    files = (name for _, name, _ in _named(content, where, root) if CONCEPT in name)
    if any(lacks_data(other, backbone, concept, root) for _, other in referred(content, root)):
        return True
    return any(not check.find_path(of_concept(name, concept), root).exists() for name in files)


def measured(concept: Concept, sets: Sequence[str], root: Path | str = "params") -> set[str]:
    """The prompts that a concept is measured on in these sets."""
    table = check.prompt_table(check.find_path(concept.dataset, root))
    drawn = [which for which in sets if has(table, concept.target, which)]
    return {prompt for which in drawn for prompt in select(table, concept.target, which)["prompt"]}


def _named(content: Mapping[str, Any], where: str, root: Path | str) -> Iterator[tuple[str, str, OnDisk]]:
    """The fields that name a file or folder, each with its text and what that should be."""
    known = class_fields(content["class"], where, check.tree_of(root))
    for key, value in content.items():
        if key in known:
            yield from ((key, name, mark) for name, mark in paths(known[key].type, value))
