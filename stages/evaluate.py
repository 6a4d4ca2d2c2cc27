"""evaluate: everything a study measures on one run's samples, beside the unedited backbone's of the same seeds."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.cli import entry, parser, set_up
from stages.concept import load_concept
from stages.files import write_json
from stages.params import build, check_name, load_params
from stages.record import recording

SEEN = "target_rate"


@entry
def main(argv: Sequence[str] | None = None) -> int:
    """Writes one JSON file per metric of the study."""
    options = parser(main.__doc__, "study", "backbone", "concept", "method", "seed")
    options.add_argument("--attacks", nargs="*", default=[], help="files of params/attacks/ to measure, too")
    args = options.parse_args(argv)
    for what in ("backbone", "concept", "method"):
        check_name(getattr(args, what), what)
    concept, study = load_concept(args.concept), load_params("studies", args.study)
    metrics, sets = study["metrics"], list(study["prompts"])
    set_up(args.threads)
    from stages.metrics.base import measure, read_samples

    folders = [
        Path("artifacts") / args.backbone / args.concept / method / str(args.seed) / "samples" / args.study
        for method in (args.method, "none")
    ]
    out, contents = Path(args.out), {name: load_params("metrics", name) for name in metrics}
    inputs = [folder / name / "metadata.jsonl" for folder in folders for name in sets]
    inputs += [folders[0] / name / "metadata.jsonl" for name in args.attacks]
    with recording(out, "evaluate", params=contents, seed=args.seed, inputs=inputs) as record:
        record.ready()
        edited, original = ({name: read_samples(folder / name, concept.target) for name in sets} for folder in folders)
        attacked = {name: read_samples(folders[0] / name, concept.target) for name in args.attacks}
        record.notes["images"] = sum(len(samples.rows) for samples in edited.values())
        for name, content in contents.items():
            metric = build(content, f"params/metrics/{name}.yaml")
            found = measure(metric, name, edited, original)
            if attacked and any(row["metric"] == SEEN for row in found["rows"]):
                add_attacks(found, measure(metric, name, attacked, None))
            write_json(out / f"{name}.json", found)
    return 0


def add_attacks(found: dict[str, Any], attacked: Mapping[str, Any]) -> None:
    """Adds how often each attack brought the concept back: its `target_rate` under the name of `attack_rate`."""
    found["rows"] += [row | {"metric": "attack_rate"} for row in attacked["rows"] if row["metric"] == SEEN]
    found["samples"] |= {name: {"attack": outcomes["target"]} for name, outcomes in attacked["samples"].items()}


if __name__ == "__main__":
    sys.exit(main())
