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
from stages.params.protocol import Protocol, load_protocol
from stages.store.record import git, versions
from stages.tuning.log import JOURNAL, SUMMARY, read_logs, write_log, write_tuned
from stages.tuning.side import chance_of, tuning_concept, tuning_sets
from stages.tuning.space import Plain, Searched, searched
from stages.tuning.trials import Outcome, run_trials

log = logging.getLogger("tune")


@entry
def main(argv: Sequence[str] | None = None) -> int:
    """search: runs the trials of one method on one backbone; write: puts the best ones into params/tuned/."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("what", choices=("search", "write"))
    parser.add_argument("--method", required=True, help="a file of params/methods/ and of params/tuning/")
    parser.add_argument("--backbone", default="", help="search: a file of params/backbones/")
    parser.add_argument("--concepts", nargs="+", default=[], help="search: files of params/concepts/ to tune on")
    parser.add_argument("--kind", default="", help="search: of these concepts, whose settings stand apart; empty: all")
    parser.add_argument("--oracle", default="", help="search: a backbone that has seen none of them, for chance levels")
    parser.add_argument("--metric", default="rates", help="search: a file of params/metrics/ that judges pictures")
    parser.add_argument("--seed", type=int, default=0, help="search: of every fit")
    parser.add_argument("--trials", type=int, default=0, help="search: other than the protocol's; for a look, no table")
    parser.add_argument("--threads", type=int, default=1, help="search: of the processor")
    parser.add_argument("--out", required=True, help="search: the folder of this search; write: the one of all of them")
    args = parser.parse_args(argv)
    check_name(args.method, "method")
    if args.what == "write":
        log.info("%s", write_tuned(args.method, read_logs(Path(args.out), args.method)))
    else:
        search(args, searched(args.method, args.backbone), load_protocol())
    return 0


def search(args: argparse.Namespace, what: Searched, protocol: Protocol) -> None:
    """Runs the trials that the journal lacks, and writes all of them."""
    if not args.concepts:
        raise ValueError(f"--concepts: name some to tune on, of {', '.join(map(str, protocol.concepts.tune))}")
    world = load_params("backbones", args.backbone).get("world", "")
    concepts = [tuning_concept(name, what, args.backbone) for name in args.concepts]
    if others := [concept.name for concept in concepts if args.kind not in ("", concept.kind)]:
        raise ValueError(
            f"--kind {args.kind}: {others[0]} is of another; leave it out, or search for all without --kind"
        )
    sets = {concept.name: tuning_sets(concept) for concept in concepts}
    chances = {concept.name: chance_of(concept, world, protocol) for concept in concepts}
    judged = metric_params(args.metric, args.backbone)
    set_up(args.threads)
    from stages.backbones import load_backbone
    from stages.tuning.measuring import Bench, Case

    out, where = Path(args.out), f"params/methods/{args.method}.yaml"
    cases = [Case(concept, sets[concept.name], chances[concept.name]) for concept in concepts]
    metric = build(judged, f"params/metrics/{args.metric}.yaml")
    bench: list[Bench] = []

    def objective(settings: Mapping[str, Plain]) -> Outcome:
        if not bench:  # a search that is finished loads nothing
            oracle = load_backbone(args.oracle) if args.oracle else None
            backbone, margin = load_backbone(args.backbone), protocol.kept_margin
            bench.append(Bench.of(backbone, metric, cases, oracle, seed=args.seed, margin=margin))
        outcome = bench[0].run(what.base, settings, where)
        log.info("%s on %s: %.3f with %s", args.method, args.backbone, outcome.objective, dict(settings))
        return outcome

    about: dict[str, Any] = {
        **{
            key: getattr(args, key) for key in ("method", "backbone", "oracle", "concepts", "metric", "seed", "threads")
        },
        "architecture": what.architecture,
        "protocol": protocol.version,
        "margin": protocol.kept_margin,
        "chance": chances,
        "space": what.space.model_dump(mode="json", exclude_defaults=True),
        "fixed": dict(what.space.fixed),
        "pictures": {name: {key: len(rows) for key, rows in own.items()} for name, own in sets.items()},
    }
    if args.kind:
        about["kind"] = args.kind
    asked = question(args, what, about, sets)
    name = f"{args.method} on {what.architecture}"
    n = args.trials or protocol.trials
    trials = run_trials(out / JOURNAL, name, asked, what.space.search, what.first, objective, n=n)
    found = write_log(out, about | {"question": asked, "world": world, "git": git(), "versions": versions()}, trials)
    log.info("%s: trial %d, objective %.3f", out / SUMMARY, found["best"], found["objective"])


def question(args: argparse.Namespace, what: Searched, about: Mapping[str, Any], sets: Mapping[str, Any]) -> str:
    """A digest of all that a trial's objective depends on beside its settings: trials of another one are no answer."""
    parts = {
        "about": {key: value for key, value in about.items() if key not in ("protocol", "threads")},
        "base": what.base,
        "code": digest_of(what.base),
        "backbones": [load_params("backbones", name) for name in (args.backbone, args.oracle) if name],
        "concepts": [load_params("concepts", name) for name in args.concepts],
        "metric": metric_params(args.metric, args.backbone),
        "sets": sets,
    }
    return hashlib.sha256(canonical(parts).encode()).hexdigest()[:12]


if __name__ == "__main__":
    sys.exit(main())
