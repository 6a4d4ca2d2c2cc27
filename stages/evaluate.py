"""evaluate: the metrics of a study on one run's samples, beside the unedited backbone's of the same seeds."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stages.launch.cli import entry, parser, set_up
from stages.params import build, check_name, load_params, metric_params
from stages.params.alike import origin
from stages.params.concept import load_concept
from stages.params.layout import run_folder
from stages.params.study import counts
from stages.store.files import write_json
from stages.store.record import recording
from stages.store.samples import BEFORE

if TYPE_CHECKING:
    from stages.metrics.base import Metric

log = logging.getLogger("evaluate")


@entry
def main(argv: Sequence[str] | None = None) -> int:
    """Writes one JSON file per metric of the study."""
    options = parser(main.__doc__, "study", "backbone", "concept", "method", "seed")
    options.add_argument("--attacks", nargs="*", default=[], help="files of params/attacks/ to measure, too")
    args = options.parse_args(argv)
    for kind in ("backbone", "concept", "method"):
        check_name(getattr(args, kind), kind)
    concept, study = load_concept(args.concept), load_params("studies", args.study)
    contents = {name: metric_params(name, args.backbone) for name in study["metrics"]}
    set_up(args.threads)
    from stages.metrics.attacked import add_attacks, add_successes
    from stages.metrics.base import measure, measure_all
    from stages.metrics.samples import SampleFolders
    from stages.store.pictures import read_metadata

    runs = [run_folder(args.backbone, args.concept, method, args.seed) for method in (args.method, "none")]
    folders, out = [run / "samples" / args.study for run in runs], Path(args.out)
    attacks = runs[0] / "attacks" / args.study
    metrics = {name: build(content, f"params/metrics/{name}.yaml") for name, content in contents.items()}
    seeing = (
        seeing_metric(metrics, f"params/studies/{args.study}.yaml: {', '.join(args.attacks)}") if args.attacks else ""
    )
    asked = study["prompts"]
    sets = [name for name in counts(asked) if name in asked or drawn(folders[0] / name)]
    sets += study.get("published") or {}
    inputs = [folder / name / "metadata.jsonl" for folder in folders for name in sets]
    inputs += [attacks / name / "metadata.jsonl" for name in args.attacks]
    with recording(out, "evaluate", params=contents, seed=args.seed, inputs=inputs) as record:
        record.ready()
        record.notes |= origin(load_params("backbones", args.backbone))
        edited, original = (SampleFolders(folder, sets, concept.target) for folder in folders)
        attacked = SampleFolders(attacks, args.attacks, concept.target)
        record.notes["images"] = sum(len(read_metadata(folders[0] / name)) for name in sets)
        measured = measure_all(metrics, edited, original)
        if attacked:
            add_attacks(measured[seeing], measure(metrics[seeing], seeing, attacked, None))
        if told := [name for name in args.attacks if (attacks / name / BEFORE).is_dir()]:
            starts = SampleFolders(attacks, [f"{name}/{BEFORE}" for name in told], concept.target)
            prompts = {name: [row["prompt"] for row in read_metadata(attacks / name / BEFORE)] for name in told}
            add_successes(measured[seeing], measure(metrics[seeing], seeing, starts, None), prompts)
        for name, content in measured.items():
            write_json(out / f"{name}.json", content)
    log.info("%s: %s", out, ", ".join(f"{name}.json" for name in measured))
    return 0


def seeing_metric(metrics: Mapping[str, Metric], where: str) -> str:
    """The first metric that says whether a picture shows the concept; ValueError names `where` without one."""
    for name, metric in metrics.items():
        if metric.seen:
            return name
    have = ", ".join(metrics)
    raise ValueError(
        f"{where}: attacks need a metric that sees the concept (rates, clip_rates, nudenet ...), got {have}"
    )


def drawn(folder: Path) -> bool:
    """Whether there are samples of a prompt set that the study does not name: not every dataset has prompts of it."""
    from stages.store.pictures import read_metadata

    return folder.is_dir() and bool(read_metadata(folder))


if __name__ == "__main__":
    sys.exit(main())
