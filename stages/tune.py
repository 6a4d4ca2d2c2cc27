"""tune: settings of a method on an architecture, by the declared number of trials of its declared search space."""

from __future__ import annotations

import argparse
import hashlib
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.launch.cli import entry, set_up
from stages.params import build, canonical, check_name, load_params, metric_params
from stages.params.check import digest_of
from stages.params.concept import load_concept
from stages.store.record import git, versions
from stages.tuning.log import JOURNAL, SUMMARY, read_logs, write_log, write_tuned
from stages.tuning.objective import MARGIN
from stages.tuning.side import tuning_sets
from stages.tuning.space import Plain, Searched, searched
from stages.tuning.trials import TRIALS, Outcome, run_trials

log = logging.getLogger("tune")


@entry
def main(argv: Sequence[str] | None = None) -> int:
    """search: runs the trials of one method on one backbone; write: puts the best ones into params/tuned/."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("what", choices=("search", "write"))
    parser.add_argument("--method", required=True, help="a file of params/methods/ and of params/tuning/")
    parser.add_argument("--backbone", default="", help="search: a file of params/backbones/")
    parser.add_argument("--concepts", nargs="*", default=[], help="search: files of params/concepts/ to tune on")
    parser.add_argument("--oracle", default="", help="search: a backbone that has seen none of them, for chance levels")
    parser.add_argument("--trials", type=int, default=TRIALS, help="search: as many for every method of a table")
    parser.add_argument("--metric", default="rates", help="search: a file of params/metrics/ that judges pictures")
    parser.add_argument("--seed", type=int, default=0, help="search: of every fit")
    parser.add_argument("--threads", type=int, default=1, help="search: of the processor")
    parser.add_argument("--out", required=True, help="search: the folder of this search; write: the one of all of them")
    args = parser.parse_args(argv)
    check_name(args.method, "method")
    if args.what == "write":
        log.info("%s", write_tuned(args.method, read_logs(Path(args.out), args.method)))
        return 0
    if args.trials < 1:
        raise ValueError(f"--trials must be 1 or more, got {args.trials}")
    search(args, searched(args.method, args.backbone))
    return 0


def search(args: argparse.Namespace, what: Searched) -> None:
    """Runs the trials that the journal lacks, and writes all of them."""
    concepts = [load_concept(name) for name in args.concepts]
    sets = {concept.name: tuning_sets(concept) for concept in concepts}
    metric = metric_params(args.metric, args.backbone)
    set_up(args.threads)
    from stages.backbones import load_backbone
    from stages.tuning.measuring import Bench, Case

    about: dict[str, Any] = {
        "method": args.method,
        "architecture": what.architecture,
        "backbone": args.backbone,
        "oracle": args.oracle,
        "concepts": args.concepts,
        "protocol": "none",
        "margin": MARGIN,
        "seed": args.seed,
        "threads": args.threads,
        "space": what.space.model_dump(mode="json", exclude_defaults=True),
        "fixed": dict(what.space.fixed),
        "metric": args.metric,
        "pictures": {name: {key: len(rows) for key, rows in own.items()} for name, own in sets.items()},
    }
    out, where = Path(args.out), f"params/methods/{args.method}.yaml"
    cases = [Case(concept, sets[concept.name]) for concept in concepts]
    judge = build(metric, f"params/metrics/{args.metric}.yaml")
    bench: list[Bench] = []

    def objective(settings: Mapping[str, Plain]) -> Outcome:
        if not bench:  # a search that is finished loads nothing
            oracle = load_backbone(args.oracle) if args.oracle else None
            bench.append(Bench.of(load_backbone(args.backbone), judge, cases, oracle, seed=args.seed, margin=MARGIN))
        outcome = bench[0].run(what.base, settings, where)
        log.info("%s on %s: %.3f with %s", args.method, args.backbone, outcome.objective, dict(settings))
        return outcome

    asked = question(args, what, {"sets": sets, "metric": metric})
    name = f"{args.method} on {what.architecture}"
    trials = run_trials(out / JOURNAL, name, asked, what.space.search, what.first, objective, n=args.trials)
    found = write_log(out, about | {"question": asked, "git": git(), "versions": versions()}, trials)
    log.info("%s: trial %d, objective %.3f", out / SUMMARY, found["best"], found["objective"])


def question(args: argparse.Namespace, what: Searched, judged: Mapping[str, Any]) -> str:
    """A digest of all that a trial's objective depends on beside its settings: trials of another one are no answer."""
    parts = {
        "base": what.base,
        "code": digest_of(what.base),
        "space": what.space.model_dump(mode="json"),
        "backbones": [load_params("backbones", name) for name in (args.backbone, args.oracle) if name],
        "concepts": [load_params("concepts", name) for name in args.concepts],
        "seed": args.seed,
        "margin": MARGIN,
        **judged,
    }
    return hashlib.sha256(canonical(parts).encode()).hexdigest()[:12]


if __name__ == "__main__":
    sys.exit(main())
