"""pretrain: what a world needs before anything is erased from it: judge, autoencoder, tokenizer, backbones."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from stages.launch.cli import entry, set_up
from stages.params import load_params
from stages.store.files import replacing
from stages.store.record import recording

log = logging.getLogger("pretrain")


@entry
def main(argv: Sequence[str] | None = None) -> int:
    """Trains one part of a world and saves it in the ecosystem's own format."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("what", choices=("judge", "autoencoder", "tokenizer", "backbone"))
    parser.add_argument("--world", default="shapes")
    parser.add_argument("--backbone", default="", help="a file of params/backbones/ with a world")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", required=True)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args(argv)
    set_up(args.threads)
    make = backbone if args.what == "backbone" else part
    out = Path(args.out)
    params: dict[str, Any] = {"what": args.what, "world": args.world}
    if args.what == "backbone":
        params |= {"backbone": args.backbone, **load_params("backbones", args.backbone)}
    with recording(out, "pretrain", params=params, seed=args.seed):
        save = make(args)
        with replacing(out) as folder:
            folder.mkdir()
            save(folder)
    log.info("%s: %s", args.backbone or f"{args.what} of {args.world}", out)
    return 0


def part(args: argparse.Namespace) -> Callable[[Path], Any]:
    """The judge of a world, its autoencoder, or the tokenizer that turns its pictures into bits."""
    from stages.worlds.by_name import train_part

    trained = train_part(args.world, args.what, args.seed)
    return trained.save if args.what == "judge" else trained.save_pretrained


def backbone(args: argparse.Namespace) -> Callable[[Path], Any]:
    """A generator, trained from scratch."""
    from stages.backbones import load_settings
    from stages.backbones.core.capabilities import Saves, needs
    from stages.backbones.from_scratch import pretrain

    cls, settings = load_settings(args.backbone)
    if settings.world is None:
        raise ValueError(f"{args.backbone} is a checkpoint at {settings.path}, not something to pretrain")
    settings = dataclasses.replace(settings, gradient_checkpointing=False)
    trained = pretrain(cls, args.backbone, settings, seed=args.seed)
    return needs(trained, Saves, "give its family a `save`").save


if __name__ == "__main__":
    sys.exit(main())
