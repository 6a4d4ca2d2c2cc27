"""attack: a search for prompts that bring the concept back in one run, and pictures of what was found."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stages.launch.cli import entry, parser, set_up
from stages.params import load_params
from stages.params.concept import load_concept
from stages.seeds import Purpose, seed_of
from stages.store.record import recording
from stages.store.samples import cut_prompts, write_folder

log = logging.getLogger("attack")


@entry
def main(argv: Sequence[str] | None = None) -> int:
    """Writes a folder of PNGs and metadata.jsonl (file, index, prompt, seed), as many as there are concept prompts."""
    options = parser(main.__doc__, "study", "backbone", "concept", "method", "seed")
    options.add_argument("--attack", required=True, help="a file of params/attacks/")
    options.add_argument("--run", help="the folder of the trained run; without it the method is fitted here")
    args = options.parse_args(argv)
    content, concept = load_params("attacks", args.attack), load_concept(args.concept)
    n = load_params("studies", args.study)["prompts"]["concept"]
    set_up(args.threads)
    from stages.attacks.base import load_attack
    from stages.backbones import load_backbone
    from stages.interventions import load
    from stages.methods import load_method

    attack, method, out = load_attack(args.attack), load_method(args.method, args.backbone), Path(args.out)
    names = {"backbone": args.backbone, "concept": args.concept, "method": args.method, "attack": args.attack}
    inputs = [Path(args.run) / "intervention.safetensors"] if args.run else []
    stage = f"attack-{args.attack}"
    with recording(out.parent, stage, params=names | content, seed=args.seed, inputs=inputs) as record:
        backbone = load_backbone(args.backbone)
        record.ready()
        intervention = load(Path(args.run)) if args.run else method.fit(backbone, concept, seed=args.seed)
        with intervention.attach(backbone):
            attempt = attack.search(backbone, concept, seed=args.seed)
            record.notes |= {"images": n, "found": list(attempt.prompts), **attempt.notes}
            with attempt.intervention.attach(backbone):
                pictures = rows(attempt.prompts, n, args.seed)
                record.notes["cut_prompts"] = cut_prompts(backbone, {args.attack: pictures})
                write_folder(backbone, pictures, out)
    log.info("%d pictures of %d prompts: %s", n, len(attempt.prompts), out)
    return 0


def rows(prompts: Sequence[str], n: int, seed: int) -> list[dict[str, Any]]:
    """n rows that take the prompts in turn, with a sampling seed each."""
    return [
        {"index": i, "prompt": prompts[i % len(prompts)], "seed": seed_of(Purpose.ATTACKED, seed, i)} for i in range(n)
    ]


if __name__ == "__main__":
    sys.exit(main())
