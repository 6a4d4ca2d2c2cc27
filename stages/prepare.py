"""prepare: the prompts that a study measures a concept on, checked and numbered."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stages.launch.cli import entry, parser
from stages.params import load_params
from stages.params.asked import asked, has_asked
from stages.params.concept import Concept, load_concept
from stages.params.published_sets import published_rows, read_sets
from stages.params.study import counts
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
    study = load_params("studies", args.study)
    split, named = study.get("split", "test"), study["prompts"]
    sets = {
        name: asked(concept, name, n, split) if name in named or has_asked(concept, name, split) else []
        for name, n in counts(named).items()
    }
    where = f"params/studies/{args.study}.yaml"
    for name, published in read_sets(study, where).items():
        sets[name] = published_rows(published, concept)
        warn_of_learned(name, sets[name], concept)
    for name, chosen in sets.items():
        warn_of_long(name, chosen)
    write_json(Path(args.out), {"concept": concept.name, "target": concept.target, "split": split, "sets": sets})
    log.info("%s: %s", args.out, ", ".join(f"{len(rows)} of {name}" for name, rows in sets.items()))
    return 0


def warn_of_long(name: str, rows: Sequence[dict[str, Any]]) -> None:
    """A line in the log if prompts have more words and signs than CLIP's text encoder reads tokens."""
    prompts = {row["prompt"] for row in rows}
    long = sum(least_tokens(prompt) > CLIP_TOKENS for prompt in prompts)
    if long:
        log.warning(
            "%s: %d of %d prompts have more than %d words and signs; what follows changes nothing for CLIP",
            *(name, long, len(prompts), CLIP_TOKENS),
        )


def warn_of_learned(name: str, rows: Sequence[dict[str, Any]], concept: Concept) -> None:
    """A line in the log if published prompts are among those that methods learn from."""
    learned = {*concept.prompts, *concept.neutral, *concept.retain}
    if shared := sum(row["prompt"] in learned for row in rows):
        log.warning("%s: %d of %d prompts are among those that methods learn from", name, shared, len(rows))


def least_tokens(prompt: str) -> int:
    """Words, digits, runs of signs, and single characters of scripts without blanks: at least so many tokens."""
    return len(PIECES.findall(prompt))


if __name__ == "__main__":
    sys.exit(main())
