"""The tuning side: the concepts, prompts, noise and backbones that may be looked at while settings are chosen."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from stages.params.asked import asked, has_asked
from stages.params.check import check_concept, check_path, find_path, prompt_table, tree_of
from stages.params.check_methods import refusal, works_on
from stages.params.concept import Concept
from stages.params.datasets import SETS, labels, select
from stages.params.layers import kind_of
from stages.params.learning import Measured, check_apart, every_text
from stages.params.load import load_params, names
from stages.params.pairs import of_concept
from stages.params.project import located
from stages.params.protocol import Protocol, check_tuning
from stages.params.source import class_fields
from stages.params.types import OnDisk, paths
from stages.tuning.space import Searched, load_space, searched

PICTURES = {"concept": 32, "synonym": 16, "neutral": 16, "seen": 16, "near": 16, "far": 16}  # of each set, every trial
RETAIN = "retain"
Row = dict[str, Any]


def searches(
    protocol: Protocol, methods: Sequence[str] | None = None, root: Path | str = "params"
) -> list[tuple[str, str, str]]:
    """The searches of some methods, or of all that have a space: each with a backbone that the protocol tunes on, and
    the kind of its concepts, empty for all.

    Each is checked as far as it can be before it runs. ValueError for a method of which nothing is searched, or that
    works on none of the backbones.
    """
    found: list[tuple[str, str, str]] = []
    for method in methods or searchable(root):
        load_params("methods", method, root)
        if reason := load_space(method, root).nothing:
            raise ValueError(f"nothing is searched of {method}: {reason}")
        ours = [side for side in protocol.searches.values() if fits(method, side.backbone, side.concepts, root)]
        if methods and not ours:
            have = ", ".join(side.backbone for side in protocol.searches.values())
            raise ValueError(f"{method} works on none of the backbones that settings are searched on: {have or 'none'}")
        for side in ours:
            searched(method, side.backbone, root)
            kinds = load_space(method, root).kinds or ("",)
            found += [(method, side.backbone, kind) for kind in kinds if of_kind(side.concepts, kind, root)]
    return found


def of_kind(concepts: Sequence[str], kind: str, root: Path | str = "params") -> list[str]:
    """The concepts of a kind, or all of them."""
    return [name for name in concepts if kind in ("", kind_of(name, root))]


def searchable(root: Path | str = "params") -> list[str]:
    """The methods that have a space with something in it."""
    return [name for name in names("tuning", root) if not load_space(name, root).nothing]


def fits(method: str, backbone: str, concepts: Sequence[str], root: Path | str = "params") -> bool:
    """Whether a method's file admits a backbone, and what it learns from is there for every one of the concepts."""
    own, about = load_params("methods", method, root), load_params("backbones", backbone, root)
    if not works_on(own, about["family"]) or refusal(own, backbone, root) or own.get("world", True) is False:
        return False
    files = (
        path for concept in concepts for _, path, _ in learned(searched(method, backbone, root).base, concept, root)
    )
    return all(find_path(path, root).exists() for path in files)


def tuning_concept(name: str, what: Searched, backbone: str, root: Path | str = "params") -> Concept:
    """A concept that settings of a method may be chosen on; ValueError if it or the backbone is one to report, if its
    table has no rows to tune on, or if the method learns from such a row."""
    check_tuning(name, load_params("backbones", backbone, root), f"search on {backbone}", root)
    concept = check_concept(name, ["concept", RETAIN], root, "tune")
    if concept.aim != "erase":
        raise ValueError(f"{name} is to be learned, and the objective is of concepts that are erased")
    measured = Measured.of(concept, SETS, root, "tune")
    check_apart(concept, measured)
    for key, path, mark in learned(what.base, name, root):
        check_path(path, mark, f"{key}: for the concept {name}", root)
        if mark.holds in ("prompts", "pairs", "breaker"):
            measured.refuse(every_text(find_path(path, root)), f"{key}: {path}")
    return concept


def learned(base: Mapping[str, Any], concept: str, root: Path | str = "params") -> Iterator[tuple[str, str, OnDisk]]:
    """The files and folders that a method's fields name for a concept, each with its field and what it should be."""
    known = class_fields(base["class"], base["class"], tree_of(root))
    for key, value in base.items():
        for name, mark in paths(known[key].type, value) if key in known else ():
            yield key, of_concept(name, concept), mark


def chance_of(concept: Concept, world: str, protocol: Protocol) -> float | None:
    """How often a concept is seen by chance, as the protocol declares it for its labels in a world; None if not."""
    levels = protocol.chance.get(world, {})
    if not concept.target or any(label not in levels for label in concept.target):
        return None
    return math.prod(levels[label] for label in concept.target)


def tuning_sets(concept: Concept, pictures: Mapping[str, int] = PICTURES) -> dict[str, list[Row]]:
    """The rows (prompt, seed, labels) of each set that a concept has prompts to tune on for, on the noise for that.

    Retained prompts are `seen` if a prompt of theirs, in whatever words, is among those that methods are told to keep;
    else `near` if they share a label's value with a prompt that methods erase the concept by; else `far`.
    """
    sets: dict[str, list[Row]] = {}
    for name, n in pictures.items():
        if name not in SETS:
            rows = retained(concept, name, n)
        else:
            rows = asked(concept, name, n, "tune") if has_asked(concept, name, "tune") else []
        if rows:
            sets[name] = rows
    return sets


def retained(concept: Concept, part: str, n: int) -> list[Row]:
    """n of the retained rows that are `seen`, `near` or `far`; none if there are none."""
    table = prompt_table(located(concept.dataset))
    names = labels(table)
    told = set(labelled(table[table["prompt"].isin(concept.retain)], names))
    erased = table[table["prompt"].isin(concept.prompts)]
    shared = {(name, value) for name in names if name not in concept.target for value in erased[name] if value}

    def is_part(shown: tuple[str, ...]) -> bool:
        near = bool(shared.intersection(zip(names, shown, strict=True)))
        return part == ("seen" if shown in told else "near" if near else "far")

    count = len(select(table, concept.target, RETAIN, "tune"))
    for repeats in (1, n) if count else ():
        every = asked(concept, RETAIN, count * repeats, "tune")
        shown = labelled(pd.DataFrame(every), names)
        rows = [row for row, one in zip(every, shown, strict=True) if is_part(one)]
        if len(rows) >= n:
            return [rows[i * len(rows) // n] for i in range(n)]
    return []


def labelled(rows: pd.DataFrame, names: Sequence[str]) -> list[tuple[str, ...]]:
    """What each of some rows shows, as the values of its labels."""
    return [tuple(map(str, values)) for values in rows[list(names)].itertuples(index=False)]
