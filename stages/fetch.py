"""fetch: published prompt files, brought from their authors and checked; none is part of this project."""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from stages.launch.cli import entry
from stages.params.project import writable
from stages.params.prompt_rows import read_source
from stages.params.prompt_sources import (
    MIRRORS,
    RECORD,
    Source,
    address,
    fetched,
    load_source,
    said_of,
    source_names,
)
from stages.store.fetching import Limits, download, sha256
from stages.store.files import write_json

MB = 2**20

log = logging.getLogger("fetch")


@entry
def main(argv: Sequence[str] | None = None) -> int:
    """Brings published prompt files into artifacts/sources/, each checked by its sha256, rows and columns."""
    options = argparse.ArgumentParser(description=main.__doc__)
    options.add_argument("names", nargs="*", metavar="NAME", help="files of params/prompts/; `all` for every one")
    options.add_argument("--from", dest="brought", metavar="FILE", help="take this file, after the same checks")
    options.add_argument("--list", action="store_true", help="say what there is, and fetch nothing")
    options.add_argument("--stall", type=float, default=30.0, help="seconds without a byte after which to try again")
    args = options.parse_args(argv)
    if args.list:
        sys.stdout.write("".join(map(told, source_names())))
        return 0
    wanted = source_names() if args.names == ["all"] else args.names
    if not wanted:
        raise ValueError("name a file of params/prompts/; --list says which there are")
    if args.brought and len(wanted) != 1:
        raise ValueError("--from takes one file, so name one source")
    writable()
    if args.stall <= 0:
        raise ValueError(f"--stall must be more than 0, got {args.stall:g}")
    failures = []
    for name, source in {name: load_source(name) for name in wanted}.items():
        try:
            fetch(name, source, brought=args.brought, stall=args.stall)
        except (ValueError, FileNotFoundError) as error:
            if len(wanted) == 1:
                raise
            failures.append(name)
            log.error("%s", error)
    if failures:
        raise ValueError(f"{len(failures)} of {len(wanted)} were not fetched: {', '.join(failures)}")
    return 0


def fetch(name: str, source: Source, *, brought: str | None = None, stall: float = 30.0) -> Path:
    """The checked file of a source, brought if it is not there; ValueError or FileNotFoundError says why not.

    Nothing is in its place until every check is passed.
    """
    path = fetched(name, source)
    if not brought and path.is_file() and source.sha256 and sha256(path) == source.sha256:
        log.info("%s: there already", path)
        return write_record(name, source, path)
    part = path.with_name(f".{path.name}.part")
    if brought:
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        take(Path(brought), part, source)
    elif not (part.is_file() and source.sha256 and sha256(part) == source.sha256):
        bring(name, source, part, stall)
    try:
        check(name, source, part)
    except ValueError:
        if brought or source.sha256:
            part.unlink()
        raise
    os.replace(part, path)
    log.info("%s: %d prompts of %s (licence: %s)", path, source.rows, source.page, source.license)
    return write_record(name, source, path)


def bring(name: str, source: Source, part: Path, stall: float) -> None:
    """Fills `part` from the source's repository, or through huggingface_hub from its data set."""
    limits = Limits(size=source.limit * MB, stall=stall)
    by_hand = f"; a copy of yours is taken by: python -m stages.fetch {name} --from FILE"
    try:
        if source.hub:
            from stages.store.hub import download_gated

            download_gated(source.hub, source.path, part, limits.size, name)
        else:
            resumed = part.is_file() and part.stat().st_size > 0
            download(address(source), part, limits, MIRRORS)
            if resumed and source.sha256 and sha256(part) != source.sha256:  # what was kept may be another file's
                part.unlink()
                download(address(source), part, limits, MIRRORS)
    except ValueError as error:
        raise ValueError(f"{name}: {error}{by_hand}") from None


def take(brought: Path, part: Path, source: Source) -> None:
    """Copies a file that somebody brought."""
    if not brought.is_file():
        raise FileNotFoundError(f"{brought} is missing")
    if (size := brought.stat().st_size) > source.limit * MB:
        raise ValueError(f"{brought}: {size} bytes, and it may have {source.limit * MB}")
    part.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(brought, part)


def check(name: str, source: Source, part: Path) -> None:
    """Raises a ValueError for a file that is not the published one."""
    found = sha256(part)
    if source.sha256 and found != source.sha256:
        raise ValueError(f"{name}: not the published file: sha256 {found}, and params/prompts/ says {source.sha256}")
    read_source(part, source)
    if not source.sha256:
        raise ValueError(
            f"{name}: its sha256 is not known to us; this file has {source.rows} rows and sha256 {found}: if you trust "
            f"it, write `sha256: {found}` into params/prompts/{name}.yaml and run the command again"
        )


def write_record(name: str, source: Source, path: Path) -> Path:
    """Writes what the file is beside it, unless that stands there already."""
    record, said = path.with_name(RECORD), said_of(name, source)
    if not record.is_file() or json.loads(record.read_text(encoding="utf-8")) != said:
        write_json(record, said)
    return path


def told(name: str) -> str:
    """A source in a line."""
    source = load_source(name)
    gated = ", gated" if source.gated else ""
    return f"{name}: {source.rows} rows, {source.what} ({source.page}, licence: {source.license}{gated})\n"


if __name__ == "__main__":
    sys.exit(main())
