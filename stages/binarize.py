"""binarize: the masks of finished runs as zeros and ones, merged when there are several."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from stages.launch.cli import entry, parser, set_up
from stages.params import check_name, method_params
from stages.params.concept import load_concept
from stages.store.record import recording

log = logging.getLogger("binarize")


@entry
def main(argv: Sequence[str] | None = None) -> int:
    """Binarizes trained masks as a method of class Binarized says, and folds them into a checkpoint if asked.

    Masks of several concepts are each judged on their own concept, then merged.
    """
    options = parser(main.__doc__, "backbone", "concept", "method", "seed")
    options.add_argument(
        "--runs", nargs="+", required=True, help="folders of trained masks; several concepts are merged"
    )
    options.add_argument("--latents", nargs="+", default=[], help="the trajectories that stages.precompute wrote")
    options.add_argument(
        "--checkpoint", default=None, help="also write the backbone with the masks in its weights here"
    )
    args = options.parse_args(argv)
    check_name(args.method, "method")
    kind = load_concept(args.concept).kind
    params = method_params(args.method, args.backbone, kind=kind)
    concepts = [load_concept(concept_of(Path(run), args.concept)) for run in args.runs]
    set_up(args.threads)
    from stages.backbones import load_backbone
    from stages.backbones.core.trajectories import Trajectories
    from stages.interventions import load, save
    from stages.interventions.masks.binarize import kept_shares, merge
    from stages.methods import load_method
    from stages.methods.binarized import Binarized

    method = load_method(args.method, args.backbone, kind=kind)
    if not isinstance(method, Binarized):
        raise ValueError(f"params/methods/{args.method}.yaml: class must be Binarized, got {type(method).__name__}")
    masks = [load(Path(run)) for run in args.runs]
    inputs = [Path(run) / "intervention.safetensors" for run in args.runs]
    with recording(Path(args.out), "binarize", params=params, seed=args.seed, inputs=inputs) as record:
        backbone = load_backbone(args.backbone)
        for path in args.latents:
            backbone.trajectories.update(Trajectories.read(path))
        made, chosen = [], {}
        for run, mask, concept in zip(args.runs, masks, concepts, strict=True):
            made.append(method.apply(mask, backbone, concept, args.seed))
            chosen[run] = {"concept": concept.name} | record.notes
        merged = merge(made)
        if len(made) > 1:
            record.notes |= {"merged": chosen, "checkpoint": None, "kept": kept_shares(merged)}
        record.notes["parameters"] = sum(value.numel() for value in merged.tensors().values())
        save(merged, Path(args.out))
        if args.checkpoint:
            from stages.interventions.export import write_checkpoint
            from stages.interventions.masks.fold import folded

            write_checkpoint(folded(merged, backbone), backbone, Path(args.checkpoint))
            log.info("checkpoint: %s", args.checkpoint)
    log.info("binary masks: %s", args.out)
    return 0


def concept_of(run: Path, default: str) -> str:
    """The concept whose masks a run trained, as its record says; the default where there is no record."""
    path = run / "record-train.json"
    if not path.is_file():
        return default
    inputs = map(Path, json.loads(path.read_text(encoding="utf-8"))["inputs"])
    return next((name.stem for name in inputs if name.parent.name == "concepts"), default)


if __name__ == "__main__":
    sys.exit(main())
