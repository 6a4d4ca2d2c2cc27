"""evaluate: everything a study measures on one run's samples, beside the unedited backbone's of the same seeds."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from stages.cli import entry, parser, set_up
from stages.concept import load_concept
from stages.files import write_json
from stages.params import build, check_name, load_params
from stages.record import recording

SETS = ("concept", "retain")


@entry
def main(argv: Sequence[str] | None = None) -> int:
    """Writes one JSON file per metric of the study."""
    args = parser(main.__doc__, "study", "backbone", "concept", "method", "seed").parse_args(argv)
    for what in ("backbone", "concept", "method"):
        check_name(getattr(args, what), what)
    concept, metrics = load_concept(args.concept), load_params("studies", args.study)["metrics"]
    set_up(args.threads)
    from stages.metrics.base import measure, read_samples

    folders = [
        Path("artifacts") / args.backbone / args.concept / method / str(args.seed) / "samples" / args.study
        for method in (args.method, "none")
    ]
    out, contents = Path(args.out), {name: load_params("metrics", name) for name in metrics}
    inputs = [folder / name / "metadata.jsonl" for folder in folders for name in SETS]
    with recording(out, "evaluate", params=contents, seed=args.seed, inputs=inputs) as record:
        edited, original = ({name: read_samples(folder / name, concept.target) for name in SETS} for folder in folders)
        record.ready()
        record.notes["images"] = sum(len(samples.rows) for samples in edited.values())
        for name, content in contents.items():
            metric = build(content, f"params/metrics/{name}.yaml")
            write_json(out / f"{name}.json", measure(metric, name, edited, original))
    return 0


if __name__ == "__main__":
    sys.exit(main())
