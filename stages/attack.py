"""attack: a search for prompts that bring the concept back in one run, and pictures of what was found."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.launch.cli import entry, parser, set_up
from stages.params import attack_params, build, load_params, metric_params
from stages.params.concept import load_concept
from stages.store.record import recording
from stages.store.samples import BEFORE, write_folder

if TYPE_CHECKING:
    from torch import Tensor

    from stages.attacks.base import Sees

log = logging.getLogger("attack")


@entry
def main(argv: Sequence[str] | None = None) -> int:
    """Writes a folder of PNGs and metadata.jsonl (file, index, prompt, seed), as many as there are concept prompts.

    At least one of each prompt that was found. In it, `before/` has pictures of what was attacked, at the same seeds,
    and `found/` what was learned.
    """
    options = parser(main.__doc__, "study", "backbone", "concept", "method", "seed")
    options.add_argument("--attack", required=True, help="a file of params/attacks/")
    options.add_argument("--run", help="the folder of the trained run; without it the method is fitted here")
    args = options.parse_args(argv)
    concept = load_concept(args.concept)
    content = attack_params(args.attack, args.backbone, kind=concept.kind)
    study = load_params("studies", args.study)
    set_up(args.threads)
    from stages.attacks.base import Victim, load_attack
    from stages.backbones import load_backbone
    from stages.backbones.text.cut import cut_prompts
    from stages.interventions import load, save
    from stages.interventions.painting import painter
    from stages.methods import load_method
    from stages.store.tracking import paint_with

    attack = load_attack(args.attack, args.backbone, kind=concept.kind)
    method, out = load_method(args.method, args.backbone, kind=concept.kind), Path(args.out)
    names = {"backbone": args.backbone, "concept": args.concept, "method": args.method, "attack": args.attack}
    inputs = [Path(args.run) / "intervention.safetensors"] if args.run else []
    stage = f"attack-{args.attack}"
    with recording(out.parent, stage, params=names | content, seed=args.seed, inputs=inputs) as record:
        backbone = load_backbone(args.backbone)
        record.ready()
        intervention = load(Path(args.run)) if args.run else method.fit(backbone, concept, seed=args.seed)
        paint_with(painter(backbone, concept.prompts))
        victim = Victim(intervention, judge(study.get("metrics", ()), concept.target, args.backbone))
        attempt = attack.search(backbone, concept, seed=args.seed, victim=victim)
        n = max(study["prompts"]["concept"], len(attempt.prompts))
        found = [asdict(one) for one in attempt.found]
        record.notes |= {"images": n, "found": list(attempt.prompts), "attempts": found, **attempt.notes}
        with victim.attach(backbone):
            with attempt.intervention.attach(backbone):
                pictures = rows(attempt.prompts, n)
                record.notes["cut_prompts"] = cut_prompts(backbone, {args.attack: pictures})
                write_folder(backbone, pictures, out)
            if attempt.starts:
                write_folder(backbone, rows(attempt.starts, n), out / BEFORE)
        if attempt.intervention.tensors():
            save(attempt.intervention, out / "found")
    log.info("%d pictures of %d prompts: %s", n, len(attempt.prompts), out)
    return 0


def judge(metrics: Sequence[str], target: Mapping[str, str], backbone: str) -> Sees | None:
    """The verdict of the first metric that sees the concept, on pictures as their files hold them; None if none."""
    import torch

    from stages.metrics.samples import Samples

    built = (build(metric_params(name, backbone), f"params/metrics/{name}.yaml") for name in metrics)
    metric = next((each for each in built if each.seen), None)
    if metric is None:
        return None

    def sees(pictures: Tensor, prompts: Sequence[str]) -> list[bool]:
        kept = (255 * pictures.detach().float().cpu()).round().to(torch.uint8)
        samples = Samples(kept, [{"index": i, "prompt": prompt} for i, prompt in enumerate(prompts)], target)
        statistics = metric.statistics(metric.features(samples), samples)
        return [float(verdict) == 1 for verdict in metric.outcomes(statistics, None)[metric.seen]]

    return sees


def rows(prompts: Sequence[str], n: int) -> list[dict[str, Any]]:
    """n rows that take the prompts in turn, with a sampling seed each: that at which the attack looked, if it did."""
    from stages.attacks.base import measured_seed

    return [{"index": i, "prompt": prompts[i % len(prompts)], "seed": measured_seed(i)} for i in range(n)]


if __name__ == "__main__":
    sys.exit(main())
