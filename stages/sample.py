"""sample: pictures of an attached backbone for every prompt of a study, one seed per picture."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.cli import entry, parser, set_up
from stages.concept import Concept, load_concept
from stages.files import replacing
from stages.params import method_params
from stages.record import Record, recording

if TYPE_CHECKING:
    from torch import Tensor

    from stages.backbones import Backbone
    from stages.interventions.base import Intervention
    from stages.methods.base import Method

SEED_STRIDE = 1_000_000  # between the sampling seeds of two run seeds


@entry
def main(argv: Sequence[str] | None = None) -> int:
    """Writes one folder per prompt set: PNGs and metadata.jsonl (file, index, prompt, seed, labels)."""
    options = parser(main.__doc__, "backbone", "concept", "method", "seed", "prompts")
    options.add_argument("--run", help="the folder of the trained run; without it the method is fitted here")
    args = options.parse_args(argv)
    sets = read_sets(Path(args.prompts))
    concept = load_concept(args.concept)
    set_up(args.threads)
    from stages.backbones import load_backbone
    from stages.interventions import load, save
    from stages.methods import load_method

    method, out = load_method(args.method, args.backbone), Path(args.out)
    intervention = load(Path(args.run)) if args.run else None
    params = {"backbone": args.backbone, "concept": args.concept, "method": args.method}
    params |= {} if args.run else method_params(args.method, args.backbone)
    inputs = [Path(args.prompts), *([Path(args.run) / "intervention.safetensors"] if args.run else [])]
    with recording(out, "sample", params=params, seed=args.seed, inputs=inputs) as record:
        backbone = load_backbone(args.backbone)
        record.ready()
        record.notes["images"] = sum(len(rows) for rows in sets.values())
        if intervention is None:
            intervention = fitted(method, backbone, concept, args.seed, record)
            save(intervention, out)
        with intervention.attach(backbone):
            for name, rows in sets.items():
                rows = [row | {"seed": row["seed"] + SEED_STRIDE * args.seed} for row in rows]
                write_folder(backbone, rows, out / name)
    return 0


def fitted(method: Method, backbone: Backbone, concept: Concept, seed: int, record: Record) -> Intervention:
    """The method's intervention, what the fit took noted where it learned anything."""
    started = time.perf_counter()
    intervention = method.fit(backbone, concept, seed=seed)
    if parameters := sum(value.numel() for value in intervention.tensors().values()):
        record.notes |= {"fit_seconds": round(time.perf_counter() - started, 3), "parameters": parameters}
    return intervention


def read_sets(path: Path) -> dict[str, list[dict[str, Any]]]:
    """The prompt sets; ValueError for a file that stages.prepare did not write."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; make it with stages.prepare")
    try:
        return json.loads(path.read_text())["sets"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not prompt sets: {error}") from None


def write_folder(backbone: Backbone, rows: list[dict[str, Any]], out: Path) -> None:
    """Samples in batches and writes the folder whole."""
    from tqdm import tqdm

    from stages.pictures import write_sample

    size = backbone.settings.batch
    with replacing(out) as folder:
        folder.mkdir()
        lines = []
        for start in tqdm(range(0, len(rows), size), f"sample {out.name}", mininterval=2, leave=False):
            batch = rows[start : start + size]
            for row, picture in zip(batch, draw(backbone, batch), strict=True):
                lines.append(write_sample(folder, row, picture))
        (folder / "metadata.jsonl").write_text("".join(json.dumps(line, sort_keys=True) + "\n" for line in lines))


def draw(backbone: Backbone, rows: list[dict[str, Any]]) -> Tensor:
    """The pictures of some rows at the backbone's own steps and guidance."""
    settings = backbone.settings
    condition = backbone.encode([row["prompt"] for row in rows])
    seeds = [row["seed"] for row in rows]
    return backbone.sample(condition, seeds=seeds, steps=settings.steps, guidance=settings.guidance)


if __name__ == "__main__":
    sys.exit(main())
