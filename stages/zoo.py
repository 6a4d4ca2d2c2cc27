"""zoo: trained backbones and parts of worlds in data/zoo/: added, checked, listed, and made into folders again."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stages.launch.cli import entry, set_up
from stages.params.load import suggestion
from stages.params.project import located
from stages.params.zoo import BACKBONE, FOLDER, Entry, Listed, digest_of, listed, read_manifest

TRAINED = Path("artifacts") / "zoo"  # where `snakemake zoo` puts what it trains
FIGURES = "record-figures.json"  # what the judge sees, beside the weights
log = logging.getLogger("zoo")


@entry
def main(argv: Sequence[str] | None = None) -> int:
    """Keeps the zoo: `judge` measures a trained backbone for its card, `add` puts trained folders into the zoo, `check`
    reads every file, `list` says what there is, `take` writes an entry's folder as it was trained.
    """
    options = argparse.ArgumentParser(description=main.__doc__)
    options.add_argument("do", choices=("judge", "add", "check", "list", "take"))
    options.add_argument("name", nargs="?", help="an entry, of params/zoo.yaml for `add`; all of them without")
    options.add_argument("--zoo", type=Path, help=f"the folder of the zoo (default: {FOLDER})")
    options.add_argument("--trained", type=Path, help=f"folders to add (default: {TRAINED})")
    options.add_argument("--dtype", choices=("float16", "bfloat16"), default="float16", help="of stored weights")
    options.add_argument("--out", type=Path, help="the folder that `take` writes")
    options.add_argument("--n", type=int, default=512, help="pictures that `judge` draws (default: 512)")
    options.add_argument("--threads", type=int, default=1)
    args = options.parse_args(argv)
    zoo, trained = args.zoo or located(FOLDER), args.trained or located(TRAINED)
    if args.do == "list":
        sys.stdout.write(table(read_manifest(zoo)))
    elif args.do == "check":
        from stages.store.zoo.keeping import check, size

        entries = check(zoo)
        log.info("%s: %d entries, %.1f MB, every file as it was added", zoo, len(entries), size(entries) / 1e6)
    elif args.do == "take":
        _take(zoo, args.name, args.out)
    elif args.do == "judge":
        set_up(args.threads)
        _judge(_listed(args.name), trained, args.n)
    else:
        _add(zoo, args.name, trained, args.dtype)
    return 0


def table(entries: dict[str, Entry]) -> str:
    """A line per entry: kind, world, seed, megabytes, seconds of training, processor."""
    rows = [
        (name, e.kind, e.world, f"{e.seed}", f"{sum(file.bytes for file in e.files.values()) / 1e6:.2f}",
         f"{e.seconds:.0f}", str(e.processor.get("name", "")))
        for name, e in entries.items()
    ]  # fmt: skip
    head = ("entry", "kind", "world", "seed", "MB", "seconds", "processor")
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (head, *rows))
    return "".join(f"{line.rstrip()}\n" for line in lines)


def _take(zoo: Path, name: str | None, out: Path | None) -> None:
    from stages.store.zoo.keeping import take

    entries = read_manifest(zoo)
    if name not in entries:
        raise ValueError(f"{zoo}: no entry {name!r}{suggestion(str(name), entries)}")
    if out is None:
        raise ValueError("take needs --out, the folder to write")
    take(zoo, entries[name], out)
    log.info("%s: %s", name, out)


def _listed(name: str | None) -> Listed:
    every = {one.name: one for one in listed()}
    if name not in every:
        raise ValueError(f"params/zoo.yaml: no entry {name!r}{suggestion(str(name), every)}")
    return every[name]


def _judge(one: Listed, trained: Path, n: int) -> None:
    """Writes what the judge of the zoo sees in a backbone's pictures beside its weights."""
    from dataclasses import replace

    from stages.backbones.loading.by_name import choose_device, load_settings
    from stages.metrics.figures import figures, rows_of
    from stages.store.record import recording
    from stages.worlds.by_name import load_judge

    if not one.prompts:
        raise ValueError(f"params/zoo.yaml: {one.world}: no judge or no table of prompts to judge {one.name} on")
    folder = folder_of(one, trained)
    read_record(folder)
    cls, settings = load_settings(one.name)
    rows, kinds = rows_of(one.prompts, n)
    with recording(folder, "figures", params={"prompts": one.prompts, "n": n}) as record:
        backbone = cls.load(one.name, replace(settings, path=str(folder)), choose_device(one.name))
        record.ready()
        record.notes["figures"] = figures(backbone, load_judge(trained / "worlds" / one.world / "judge"), rows, kinds)
    said = (f"{f['kind']} {100 * f['rate']:.1f} %" for f in record.notes["figures"])
    log.info("%s: %s", one.name, ", ".join(said))


def _add(zoo: Path, name: str | None, trained: Path, dtype: str) -> None:
    from stages.store.zoo.keeping import add

    for one in listed() if name is None else [_listed(name)]:
        source = folder_of(one, trained)
        record = read_record(source)
        made = add(zoo, one.name, source, about(one, record, read_figures(source), dtype))
        log.info("%s: %.2f MB", one.name, sum(file.bytes for file in made.files.values()) / 1e6)


def folder_of(one: Listed, trained: Path) -> Path:
    """Where `snakemake zoo` puts an entry."""
    return trained / "backbones" / one.name if one.kind == BACKBONE else trained / "worlds" / one.world / one.kind


def read_record(source: Path) -> dict[str, Any]:
    """The record of a training; FileNotFoundError says how to make it."""
    path = source / "record-pretrain.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; train it with: snakemake zoo")
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def read_figures(source: Path) -> tuple[dict[str, Any], ...]:
    """What the judge saw, if that was measured."""
    path = source / FIGURES
    return tuple(json.loads(path.read_text(encoding="utf-8"))["notes"]["figures"]) if path.is_file() else ()


def about(one: Listed, record: dict[str, Any], figures: tuple[dict[str, Any], ...], dtype: str) -> Entry:
    """An entry without its files. ValueError if it was trained by another recipe than its file has now."""
    trained_by = record["params"].get("recipe_sha256")
    if one.kind == BACKBONE and trained_by != digest_of(one.recipe):
        raise ValueError(f"{one.name}: its file has changed since it was trained; train it again with: snakemake zoo")
    return Entry(
        kind=one.kind,
        world=one.world,
        recipe=one.recipe,
        recipe_sha256=digest_of(one.recipe),
        seed=(record.get("seed") or 0) + one.recipe.get("pretrain", {}).get("seed", 0),
        commit=(record.get("git") or {}).get("commit"),
        processor=record.get("processor") or {},
        threads=record.get("threads"),
        seconds=float(record["seconds"]),
        versions=record.get("versions") or {},
        dtype=dtype,
        rounding=0.0,
        never_shown=one.never_shown,
        figures=figures,
    )


if __name__ == "__main__":
    sys.exit(main())
