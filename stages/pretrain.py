"""pretrain: what a world needs before anything is erased from it: judge, autoencoder, tokenizer, backbones.

They are trained, or taken from a zoo of trained ones.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from stages.launch.cli import entry, set_up
from stages.params import load_params
from stages.params.zoo import Entry, digest_of, part_name, read_manifest, recipe_of
from stages.store.files import replacing
from stages.store.record import recording

WORLDS = "artifacts/worlds"
log = logging.getLogger("pretrain")


@entry
def main(argv: Sequence[str] | None = None) -> int:
    """Trains one part of a world and saves it in the ecosystem's own format, or takes it from a zoo."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("what", choices=("judge", "autoencoder", "tokenizer", "backbone"))
    parser.add_argument("--world", default="shapes")
    parser.add_argument("--backbone", default="", help="a file of params/backbones/ with a world")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--worlds", default=WORLDS, help=f"where the autoencoders of worlds lie (default: {WORLDS})")
    parser.add_argument("--zoo", type=Path, help="take it from this folder instead of training it")
    parser.add_argument("--out", required=True)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args(argv)
    set_up(args.threads)
    make = backbone if args.what == "backbone" else part
    out = Path(args.out)
    params: dict[str, Any] = {"what": args.what, "world": args.world}
    if args.what == "backbone":
        content = load_params("backbones", args.backbone)
        params |= {"backbone": args.backbone, **content, "recipe_sha256": digest_of(recipe_of(content))}
    with recording(out, "pretrain", params=params, seed=args.seed) as record:
        if args.zoo:
            known, save = stored(args)
            record.notes["zoo"] = {key: value for key, value in asdict(known).items() if key != "files"}
        else:
            save = make(args)
        with replacing(out) as folder:
            folder.mkdir()
            save(folder)
    log.info("%s: %s", args.backbone or f"{args.what} of {args.world}", out)
    return 0


def stored(args: argparse.Namespace) -> tuple[Entry, Callable[[Path], Any]]:
    """The zoo's entry, and a function that writes its files; errors in one line for one that is missing or damaged."""
    from stages.store.zoo.keeping import fill

    name = args.backbone if args.what == "backbone" else part_name(args.world, args.what)
    entries = read_manifest(args.zoo)
    if name not in entries:
        raise ValueError(f"{args.zoo}: no entry {name!r}; train it here: snakemake --config zoo=false")
    return entries[name], lambda folder: fill(args.zoo, entries[name], folder)


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
    trained = pretrain(cls, args.backbone, settings, seed=args.seed, worlds=args.worlds)
    return needs(trained, Saves, "give its family a `save`").save


if __name__ == "__main__":
    sys.exit(main())
