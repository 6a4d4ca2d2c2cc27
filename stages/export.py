"""export: a finished run as files that diffusers and peft load by themselves, without this project."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from stages.launch.cli import entry, parser, set_up
from stages.store.record import recording

log = logging.getLogger("export")


@entry
def main(argv: Sequence[str] | None = None) -> int:
    """Writes a checkpoint with changed weights or fixed masks in it, a LoRA's files, or learned token embeddings."""
    options = parser(main.__doc__, "backbone")
    options.add_argument("--run", required=True, help="the folder of the finished run")
    options.add_argument("--gate", type=float, default=1.0, help="how far membranes (SPM) are open, for every prompt")
    options.add_argument("--force", action="store_true", help="write over what is in --out")
    args = options.parse_args(argv)
    run, out = Path(args.run), Path(args.out)
    if out.is_dir() and any(out.iterdir()) and not args.force:
        raise ValueError(f"{out} is not empty; choose another --out, or write over it with --force")
    set_up(args.threads)
    from stages.interventions import load
    from stages.interventions.export import write
    from stages.interventions.membrane import Membrane

    made = load(run)
    params, inputs = {"backbone": args.backbone, "run": args.run}, [run / "intervention.safetensors"]
    if isinstance(made, Membrane):
        params |= {"gate": args.gate}
    with recording(out, "export", params=params, inputs=inputs):
        write(made, args.backbone, out, args.gate)
    written = sorted(path.name for path in out.iterdir() if not path.name.startswith((".", "record-")))
    log.info("%s of %s: %s: %s", type(made).__name__, args.backbone, out, ", ".join(written))
    return 0


if __name__ == "__main__":
    sys.exit(main())
