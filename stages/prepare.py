"""prepare: the prompts that a study measures a concept on, checked and numbered."""

from __future__ import annotations

import logging
import math
import re
import sys
from collections.abc import Mapping, Sequence
from itertools import count, islice
from pathlib import Path
from typing import Any

from stages.launch.cli import entry, parser
from stages.params import load_params
from stages.params.check import prompt_table
from stages.params.concept import Concept, load_concept
from stages.params.datasets import has, select
from stages.params.load import located
from stages.params.study import counts
from stages.seeds import picture
from stages.store.files import write_json

CLIP_TOKENS = 75  # of a prompt, beside the two that mark its ends
UNSPACED = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"  # kana, Chinese characters, Hangul
PIECES = re.compile(rf"[{UNSPACED}]|[^\W\d_{UNSPACED}]+|\d|[^\w\s]+|_+")

log = logging.getLogger("prepare")


@entry
def main(argv: Sequence[str] | None = None) -> int:
    """Writes the prompt sets of one concept in one study as JSON."""
    args = parser(main.__doc__, "study", "concept").parse_args(argv)
    concept = load_concept(args.concept)
    asked = load_params("studies", args.study)["prompts"]
    sets = {name: rows(concept, name, n) if has_rows(concept, name, asked) else [] for name, n in counts(asked).items()}
    for name, chosen in sets.items():
        warn_of_long(name, chosen)
    write_json(Path(args.out), {"concept": concept.name, "target": concept.target, "sets": sets})
    log.info("%s: %s", args.out, ", ".join(f"{len(rows)} of {name}" for name, rows in sets.items()))
    return 0


def has_rows(concept: Concept, which: str, asked: Mapping[str, int]) -> bool:
    """Whether the set is asked for, or the concept's dataset has prompts of it."""
    return which in asked or has(prompt_table(located(concept.dataset)), concept.target, which)


def rows(concept: Concept, which: str, n: int) -> list[dict[str, Any]]:
    """n rows of one set, spread evenly over the dataset; if it has fewer, each prompt comes with further seeds.

    No prompt comes twice with one seed, since the two pictures would be the same. ValueError for n below 1, and for a
    dataset that has no row of the set.
    """
    if n < 1:
        raise ValueError(f"the number of {which} prompts must be 1 or more, got {n}")
    table = select(prompt_table(located(concept.dataset)), concept.target, which)
    if table.empty:
        raise ValueError(f"{concept.dataset}: no {which} prompts for {concept.target}")
    records = [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]
    many = different(records, math.ceil(n / len(table)))
    return [many[i * len(many) // n] | {"index": i} for i in range(n)]


def different(records: Sequence[dict[str, Any]], repeats: int) -> list[dict[str, Any]]:
    """Every record `repeats` times, each time with another seed, and no prompt twice with one seed.

    A seed that the dataset gives is that of the record's first picture; without one, seeds follow from the record's id,
    so that a prompt and its neutral twin start from the same noise.
    """
    taken: set[tuple[str, int]] = set()
    rows = []
    for row in records:
        found = (picture(row["id"], repeat, row.get("seed")) for repeat in count())
        fresh = (seed for seed in found if (row["prompt"], seed) not in taken)
        for seed in islice(fresh, repeats):
            taken.add((row["prompt"], seed))
            rows.append(row | {"seed": seed})
    return rows


def warn_of_long(name: str, rows: Sequence[dict[str, Any]]) -> None:
    """A line in the log if prompts have more words and signs than CLIP's text encoder reads tokens."""
    prompts = {row["prompt"] for row in rows}
    long = sum(least_tokens(prompt) > CLIP_TOKENS for prompt in prompts)
    if long:
        log.warning(
            "%s: %d of %d prompts have more than %d words and signs; what follows changes nothing for CLIP",
            *(name, long, len(prompts), CLIP_TOKENS),
        )


def least_tokens(prompt: str) -> int:
    """Words, digits, runs of signs, and single characters of scripts without blanks: at least so many tokens."""
    return len(PIECES.findall(prompt))


if __name__ == "__main__":
    sys.exit(main())
