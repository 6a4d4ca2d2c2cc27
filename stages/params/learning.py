"""What a method learns from for one concept, checked before anything runs: it is there, right, and not measured."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.params import check
from stages.params.concept import PLACE, Concept
from stages.params.datasets import Split, has, select
from stages.params.effect import settings
from stages.params.layers import kind_of, method_params
from stages.params.pairs import CONCEPT, of_concept, read_texts
from stages.params.source import class_fields
from stages.params.tables import read_text
from stages.params.types import OnDisk, paths
from stages.params.within import named, referred
from stages.seeds import FITTING, owner

NAMED = 3  # prompts that an error names
FIRST = 2**16  # draws of a run


@dataclass(frozen=True)
class Measured:
    """The prompts that a concept is measured on in one split of its table, by set, and the table."""

    table: str
    sets: Mapping[str, frozenset[str]]
    split: Split

    @classmethod
    def of(cls, concept: Concept, sets: Sequence[str], root: Path | str = "params", split: Split = "test") -> Measured:
        """Those sets that the table has prompts of."""
        table = check.prompt_table(check.find_path(concept.dataset, root))
        have = [which for which in sets if has(table, concept.target, which, split)]
        rows = {which: frozenset(select(table, concept.target, which, split)["prompt"]) for which in have}
        return cls(concept.dataset, rows, split)

    def prompts(self) -> frozenset[str]:
        """Those of all sets."""
        return frozenset().union(*self.sets.values())

    def refuse(self, learned: Iterable[str], what: str, *, but: str = "") -> None:
        """Raises a ValueError that names prompts which are both learned from and measured, and the way out; of all sets
        but one."""
        learned = set(learned)
        shared = {which: sorted(learned & prompts) for which, prompts in self.sets.items() if which != but}
        found = list(dict.fromkeys(prompt for prompts in shared.values() for prompt in prompts))
        if found:
            told = ", ".join(map(repr, found[:NAMED])) + (f" and {len(found) - NAMED} more" if found[NAMED:] else "")
            where = ", ".join(which for which, prompts in shared.items() if prompts)
            raise ValueError(
                f"{what}: {told}: measured on {self.table}, too ({where}); give those rows split: fit there, or take "
                "the prompts out here"
            )


def check_apart(concept: Concept, measured: Measured) -> None:
    """Raises a ValueError when a prompt of the concept's file, which methods learn from, is measured, too.

    Retained prompts may be among the retained ones that are measured.
    """
    where = f"params/concepts/{concept.name}.yaml"
    measured.refuse({*concept.prompts, *concept.neutral}, f"{where}: prompts, neutral")
    measured.refuse(concept.retain, f"{where}: retain", but="retain")


def check_noise(concept: Concept, runs: Sequence[int], root: Path | str = "params") -> None:
    """Raises a ValueError when a seed in the concept's table is the noise that a method of these runs learns from.

    Seeds below 2^28 never are; of larger ones, those of the first draws of each run are known.
    """
    table = check.prompt_table(check.find_path(concept.dataset, root))
    for number, given in zip(table["id"], table["seed"], strict=True) if "seed" in table else ():
        drawn = owner(int(given))
        if drawn is not None and drawn[0] in FITTING and drawn[1] in runs and drawn[2] < FIRST:
            raise ValueError(
                f"{concept.dataset}: id {number}: seed {given} is noise that methods learn from in runs of seed "
                f"{drawn[1]}; take another, best below 2^28"
            )


def check_data(method: str, backbone: str, concept: Concept, measured: Measured, root: Path | str = "params") -> None:
    """Raises a ValueError when files that a method, or one fitted within it, names for a concept are missing or hold
    something else, or when a prompt that it learns from is measured, too."""
    where, content = named(method), method_params(method, backbone, root, concept.kind)
    for key, other in referred(content, root):
        try:
            check_data(other, backbone, concept, measured, root)
        except ValueError as error:
            raise ValueError(f"{where}: {key}: {error}") from None
    learned = {*concept.prompts, *concept.neutral}
    for key, name, mark in _named(content, where, root):
        path = of_concept(name, concept.name)
        check.check_path(path, mark, f"{where}: {key}: for the concept {concept.name}", root)
        if mark.holds in ("prompts", "pairs", "breaker"):
            texts = every_text(check.find_path(path, root))
            measured.refuse(texts, f"{where}: {key}: {path}")
            learned = texts
    fields = settings(content["class"], content, check.tree_of(root))
    learned = {fields["alias"]} if "alias" in fields else learned
    templates = [template for template in fields.get("templates") or () if PLACE in template]
    said = (template.replace(PLACE, text) for template in templates for text in learned)
    measured.refuse(said, f"{where}: templates")


def every_text(path: Path) -> set[str]:
    """Every prompt of a table to learn from, those of both columns, or of JSON of lists."""
    content = json.loads(read_text(path)) if path.suffix.lower() == ".json" else []
    if isinstance(content, dict):
        return set(_leaves(content))
    prompts, twins = read_texts(path)
    return {*prompts, *twins}


def _leaves(content: Any) -> Iterator[str]:
    """The texts in nested lists and mappings."""
    if isinstance(content, str):
        yield content.strip()
    elif isinstance(content, dict | list):
        for part in content.values() if isinstance(content, dict) else content:
            yield from _leaves(part)


def lacks_data(method: str, backbone: str, concept: str, root: Path | str = "params") -> bool:
    """Whether a method, or one fitted within it, names a file or folder of the concept, by `{concept}`, that is not
    there."""
    where, content = named(method), method_params(method, backbone, root, kind_of(concept, root))
    files = (name for _, name, _ in _named(content, where, root) if CONCEPT in name)
    if any(lacks_data(other, backbone, concept, root) for _, other in referred(content, root)):
        return True
    return any(not check.find_path(of_concept(name, concept), root).exists() for name in files)


def _named(content: Mapping[str, Any], where: str, root: Path | str) -> Iterator[tuple[str, str, OnDisk]]:
    """The fields that name a file or folder, each with its text and what that should be."""
    known = class_fields(content["class"], where, check.tree_of(root))
    for key, value in content.items():
        if key in known:
            yield from ((key, name, mark) for name, mark in paths(known[key].type, value))
