"""sample: pictures of an attached backbone for every prompt of a study, one seed per picture."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stages.launch.cli import entry, parser, set_up
from stages.params import method_params
from stages.params.concept import Concept, load_concept
from stages.store.record import Record, recording
from stages.store.samples import read_sets, write_folders

if TYPE_CHECKING:
    from stages.backbones import Backbone
    from stages.interventions.base import Intervention
    from stages.methods.shared.base import Method


log = logging.getLogger("sample")


@entry
def main(argv: Sequence[str] | None = None) -> int:
    """Writes one folder per prompt set: PNGs and metadata.jsonl (file, index, prompt, seed, labels)."""
    options = parser(main.__doc__, "backbone", "seed", "prompts")
    options.add_argument("--concept", help="a file of params/concepts/; needed if a method is fitted here")
    options.add_argument("--method", default="none", help="a file of params/methods/ (default: none, no edit)")
    options.add_argument("--run", help="the folder of the trained run; without it the method is fitted here")
    args = options.parse_args(argv)
    sets = read_sets(Path(args.prompts))
    concept = load_concept(args.concept) if args.concept else None
    if concept is None and not args.run and args.method != "none":
        raise ValueError(f"--concept is missing: {args.method} is fitted to one")
    kind = concept.kind if concept else ""
    set_up(args.threads)
    from stages.backbones import load_backbone
    from stages.backbones.text.cut import cut_prompts
    from stages.interventions import Identity, load, save
    from stages.methods import load_method

    method = load_method(args.method, args.backbone, kind=kind) if concept else None
    intervention, out = load(Path(args.run)) if args.run else None, Path(args.out)
    params = {"backbone": args.backbone, "concept": args.concept, "method": args.method}
    params |= {} if args.run or not concept else method_params(args.method, args.backbone, kind=kind)
    inputs = [Path(args.prompts), *([Path(args.run) / "intervention.safetensors"] if args.run else [])]
    with recording(out, "sample", params=params, seed=args.seed, inputs=inputs) as record:
        backbone = load_backbone(args.backbone)
        record.ready()
        record.notes["images"] = sum(len(rows) for rows in sets.values())
        if intervention is None:
            fit = method and concept and fitted(method, backbone, concept, args.seed, record)
            intervention = fit or Identity()
        with intervention.attach(backbone):
            record.notes["cut_prompts"] = cut_prompts(backbone, sets)
            write_folders(backbone, {out / name: rows for name, rows in sets.items()})
        if not args.run and concept:
            save(intervention, out)
    log.info("%s: %s", out, ", ".join(f"{len(rows)} of {name}" for name, rows in sets.items()))
    return 0


def fitted(method: Method, backbone: Backbone, concept: Concept, seed: int, record: Record) -> Intervention:
    """The method's intervention, what the fit took noted where it learned anything."""
    started = time.perf_counter()
    intervention = method.fit(backbone, concept, seed=seed)
    if parameters := sum(value.numel() for value in intervention.tensors().values()):
        record.notes |= {"fit_seconds": round(time.perf_counter() - started, 3), "parameters": parameters}
    return intervention


if __name__ == "__main__":
    sys.exit(main())
