"""The data of a method: which prompts it learns from, the concept's own or those of a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from stages.params.concept import Concept
from stages.params.effect import check_settings
from stages.params.pairs import of_concept, read_pairs, read_texts
from stages.params.types import Natural, Pairs, Prompts

Pair = tuple[str, str]
GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True, kw_only=True)
class FromPrompts:
    """A method that learns from prompts of the concept. Its `fit` begins with

    concept = self.learned(concept)
    """

    PAIRED: ClassVar[bool] = False  # whether a table without neutral twins is of no use

    # A CSV or JSON of prompts, with their neutral twins if it has them, all of which are used; `{concept}` in the path
    # is the concept's name. Empty: the prompts of the concept's file.
    data: Prompts = ""
    templates: tuple[str, ...] = ()  # `a video of {}`: prompts are learned plain and in these, each used at least once
    limit: Natural = 0  # only so many rows, from all over the table; 0: all

    def learned(self, concept: Concept) -> Concept:
        """The concept with the prompts to learn from in the place of its own.

        FileNotFoundError or ValueError for a table that is missing or has the wrong columns, and for a template without
        a place for the prompt; ValueError for fields that contradict each other.
        """
        check_settings(self)
        if not (self.data or self.templates or self.limit):
            return concept
        pairs, words = self._pairs(concept)
        pairs = in_templates(spread(pairs, self.limit), self.templates)
        prompts, neutral = (tuple(side) for side in zip(*pairs, strict=True))
        return replace(concept, prompts=prompts, neutral=neutral, words=words)

    def _pairs(self, concept: Concept) -> tuple[Sequence[Pair], tuple[str, ...]]:
        """The rows, and the words that name the concept in them."""
        if not self.data:
            return concept.pairs(), concept.called()
        path = of_concept(self.data, concept.name)
        prompts, twins = zip(*read_pairs(path), strict=True) if self.PAIRED else read_texts(path)
        if twins:
            pairs = list(zip(prompts, twins, strict=True))
            return pairs, concept.called(pairs)
        # such a method looks at no twin
        return [(prompt, concept.neutral[0]) for prompt in prompts], concept.called()


@dataclass(frozen=True, kw_only=True)
class FromPairs(FromPrompts):
    """A method that learns from prompts of the concept and their neutral twins."""

    PAIRED: ClassVar[bool] = True

    # A CSV or JSON of prompts and their neutral twins, all of which are used; `{concept}` in the path is the concept's
    # name. Empty: the prompts of the concept's file.
    data: Pairs = ""


def spread(pairs: Sequence[Pair], limit: int) -> Sequence[Pair]:
    """`limit` of the pairs from all over the table, in its order, at distances that no regular pattern of rows repeats
    (multiples of the golden section); all of them for 0, or if there are no more.
    """
    if not limit or limit >= len(pairs):
        return pairs
    chosen = sorted(range(len(pairs)), key=lambda i: i * GOLDEN % 1)[:limit]
    return [pairs[i] for i in sorted(chosen)]


def in_templates(pairs: Sequence[Pair], templates: Sequence[str]) -> Sequence[Pair]:
    """The pairs, and behind them pairs in templates, taken in turn until each pair and each template was used.

    ValueError for a template without a place for the prompt.
    """
    wrong = [template for template in templates if "{}" not in template]
    if wrong:
        raise ValueError(f"a template needs {{}} where the prompt goes, got {wrong[0]!r}")
    if not templates:
        return pairs
    turns = range(max(len(pairs), len(templates)))
    both = ((pairs[i % len(pairs)], templates[i % len(templates)]) for i in turns)
    return [*pairs, *((template.replace("{}", a), template.replace("{}", b)) for (a, b), template in both)]
