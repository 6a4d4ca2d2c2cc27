"""train: one method on one backbone for one concept with one seed."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from stages.launch.cli import entry, parser, set_up
from stages.params import build, check_name, method_params
from stages.params.concept import load_concept
from stages.params.project import located
from stages.store.record import recording

if TYPE_CHECKING:
    from stages.methods.shared.base import Method

log = logging.getLogger("train")


@entry
def main(argv: Sequence[str] | None = None) -> int:
    """Fits the method and saves its intervention; of several processes, the first one does."""
    options = parser(main.__doc__, "backbone", "concept", "method", "seed")
    options.add_argument("--latents", default=None, help="the trajectories that stages.precompute wrote")
    args = options.parse_args(argv)
    check_name(args.method, "method")
    concept = load_concept(args.concept)
    params = method_params(args.method, args.backbone, kind=concept.kind)
    set_up(args.threads)
    from stages.backbones import load_backbone
    from stages.backbones.core.blueprint import Blueprint
    from stages.backbones.core.trajectories import Trajectories
    from stages.interventions import save
    from stages.interventions.painting import painter
    from stages.store.tracking import paint_with
    from stages.training.processes import claim_device, rank, wait

    claim_device()
    method: Method = build(params, f"params/methods/{args.method}.yaml")
    out = Path(args.out)
    files = {"backbones": args.backbone, "concepts": args.concept}
    inputs = [located(Path("params", kind, f"{name}.yaml")) for kind, name in files.items()]
    inputs += [Path(args.latents)] if args.latents else []
    writes = recording(out, "train", params=params, seed=args.seed, inputs=inputs) if rank() == 0 else nullcontext()
    with writes as record:
        backbone = getattr(method, "load_backbone", load_backbone)(args.backbone)
        if not isinstance(backbone, Blueprint):  # of which a method makes its own backbone
            backbone.trajectories.folder = out
            if args.latents:
                backbone.trajectories.update(Trajectories.read(args.latents))
        if record:
            record.ready()
        paint_with(painter(backbone, concept.prompts))
        intervention = method.fit(backbone, concept, seed=args.seed)
        if record:
            record.notes["parameters"] = sum(value.numel() for value in intervention.tensors().values())
            save(intervention, out)
            log.info("%s of %s: %s", args.method, args.backbone, out)
    wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
