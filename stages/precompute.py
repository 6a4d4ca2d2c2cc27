"""precompute: the frozen network's trajectories of a concept's training prompts, made once per seed for all methods."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from stages.launch.cli import entry, parser, set_up
from stages.params.concept import load_concept
from stages.params.kept import ORDER
from stages.store.record import recording

log = logging.getLogger("precompute")


@entry
def main(argv: Sequence[str] | None = None) -> int:
    """Samples and saves trajectories (pool, T + 1, ...) of T calls per prompt, under the prompt's text."""
    options = parser(main.__doc__, "backbone", "concept", "seed")
    options.add_argument("--states", choices=ORDER, default="all", help="of each run: the last, both ends, or all")
    args = options.parse_args(argv)
    set_up(args.threads)
    from stages.backbones import load_backbone
    from stages.backbones.core.trajectories import Trajectories

    out, concept = Path(args.out), load_concept(args.concept)
    params = {"backbone": args.backbone, "concept": args.concept, "states": args.states}
    with recording(out.parent, "precompute", params=params, seed=args.seed) as record:
        backbone = load_backbone(args.backbone)
        record.ready()
        prompts = [*concept.prompts, *concept.neutral, *concept.retain, ""]
        backbone.gather(prompts, args.seed, args.states, into=out)
        record.notes["images"] = sum(map(len, Trajectories.read(out).pools.values()))
    log.info("%d trajectories: %s", record.notes["images"], out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
