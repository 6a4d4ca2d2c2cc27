"""prepare: the prompts that a study measures a concept on, checked and numbered."""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stages.launch.cli import entry, parser
from stages.params import load_params
from stages.params.concept import Concept, load_concept
from stages.params.datasets import read_prompts, select
from stages.store.files import write_json

log = logging.getLogger("prepare")


@entry
def main(argv: Sequence[str] | None = None) -> int:
    """Writes the prompt sets of one concept in one study as JSON."""
    args = parser(main.__doc__, "study", "concept").parse_args(argv)
    concept = load_concept(args.concept)
    counts = load_params("studies", args.study)["prompts"]
    sets = {name: rows(concept, name, n) for name, n in counts.items()}
    write_json(Path(args.out), {"concept": concept.name, "target": concept.target, "sets": sets})
    log.info("%s: %s", args.out, ", ".join(f"{len(rows)} of {name}" for name, rows in sets.items()))
    return 0


def rows(concept: Concept, which: str, n: int) -> list[dict[str, Any]]:
    """n rows of one set, spread evenly over the dataset; where it has fewer, each prompt comes with further seeds."""
    if n < 1:
        raise ValueError(f"the number of {which} prompts must be 1 or more, got {n}")
    table = select(read_prompts(concept.dataset), concept.target, which)
    if table.empty:
        raise ValueError(f"{concept.dataset}: no {which} prompts for {concept.target}")
    records = table.to_dict("records")
    repeats = math.ceil(n / len(records))
    many = [row | {"seed": row["seed"] + k} for row in records for k in range(repeats)]
    return [many[i * len(many) // n] | {"index": i} for i in range(n)]


if __name__ == "__main__":
    sys.exit(main())
