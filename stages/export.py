"""export: a finished run as files that diffusers and peft load by themselves, without this project."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from stages.launch.cli import entry, parser, set_up
from stages.store.record import recording


@entry
def main(argv: Sequence[str] | None = None) -> int:
    """Writes a checkpoint with changed weights or fixed masks in it, a LoRA's files, or learned token embeddings."""
    options = parser(main.__doc__, "backbone")
    options.add_argument("--run", required=True, help="the folder of the finished run")
    args = options.parse_args(argv)
    set_up(args.threads)
    from stages.interventions import load
    from stages.interventions.export import write

    run, out = Path(args.run), Path(args.out)
    made = load(run)
    params, inputs = {"backbone": args.backbone, "run": args.run}, [run / "intervention.safetensors"]
    with recording(out, "export", params=params, inputs=inputs):
        write(made, args.backbone, out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
