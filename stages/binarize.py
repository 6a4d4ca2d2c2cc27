"""binarize: the masks of finished runs as zeros and ones, merged when there are several."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from stages.cli import entry, parser, set_up
from stages.concept import load_concept
from stages.params import check_name, method_params
from stages.record import recording


@entry
def main(argv: Sequence[str] | None = None) -> int:
    """Binarizes trained masks as a method of class Binarized says, and folds them into a checkpoint if asked."""
    options = parser(main.__doc__, "backbone", "concept", "method", "seed")
    options.add_argument(
        "--runs", nargs="+", required=True, help="folders of trained masks; several concepts are merged"
    )
    options.add_argument("--latents", default=None, help="the trajectories that stages.precompute wrote")
    options.add_argument(
        "--checkpoint", default=None, help="also write the backbone with the masks in its weights here"
    )
    args = options.parse_args(argv)
    check_name(args.method, "method")
    concept, params = load_concept(args.concept), method_params(args.method, args.backbone)
    set_up(args.threads)
    from stages.backbones import load_backbone
    from stages.interventions import load, save
    from stages.interventions.base import read_tensors
    from stages.interventions.binarize import merge
    from stages.methods import load_method
    from stages.methods.binarized import Binarized

    method = load_method(args.method, args.backbone)
    if not isinstance(method, Binarized):
        raise ValueError(f"params/methods/{args.method}.yaml: class must be Binarized, got {type(method).__name__}")
    masks = [load(Path(run)) for run in args.runs]
    inputs = [Path(run) / "intervention.safetensors" for run in args.runs]
    with recording(Path(args.out), "train", params=params, seed=args.seed, inputs=inputs) as record:
        backbone = load_backbone(args.backbone)
        if args.latents:
            backbone.pools |= read_tensors(Path(args.latents))
        merged = merge([method.apply(mask, backbone, concept, args.seed) for mask in masks])
        record.notes["parameters"] = sum(value.numel() for value in merged.tensors().values())
        save(merged, Path(args.out))
        if args.checkpoint:
            from stages.interventions.folding import folded
            from stages.interventions.weights import fold

            fold(folded(merged, backbone), backbone.net)
            backbone.save(Path(args.checkpoint))
    return 0


if __name__ == "__main__":
    sys.exit(main())
