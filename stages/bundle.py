"""bundle: published results as one zip for a reviewer, with the code that derives their tables again."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from stages.launch.cli import entry, set_up
from stages.store.files import replacing

CODE = ("stages", "Infinity")
PINS = ("requirements.lock", "pyproject.toml", "LICENSE", "params/protocol.yaml")
RESULTS = "results"  # the folder of results in the zip
WHEN = (1980, 1, 1, 0, 0, 0)  # of every file in it: equal content gives equal bytes
log = logging.getLogger("bundle")


@entry
def main(argv: Sequence[str] | None = None) -> int:
    """Verifies published results and packs them: outcomes, tables, records, pages, the pinned versions and the code."""
    options = argparse.ArgumentParser(description=main.__doc__)
    options.add_argument("--results", type=Path, default=Path("docs/results"), help="(default: docs/results)")
    options.add_argument("--out", type=Path, default=Path("dist/palimpsest.zip"), help="(default: dist/palimpsest.zip)")
    options.add_argument("--threads", type=int, default=1)
    args = options.parse_args(argv)
    set_up(args.threads)
    from stages.reporting.published.verifying import published_in, verify

    folders = published_in(args.results)
    for folder in folders:
        log.info("%s", verify(folder))
    root = Path(__file__).resolve().parents[1]
    with replacing(args.out) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, content in _files(args.results, folders, root):
            about = zipfile.ZipInfo(name, WHEN)
            about.external_attr = 0o644 << 16
            archive.writestr(about, content, zipfile.ZIP_DEFLATED, 9)
    log.info("%s: %.1f MB", args.out, args.out.stat().st_size / 1e6)
    return 0


def _files(results: Path, folders: Sequence[Path], root: Path) -> Iterator[tuple[str, bytes]]:
    """Name in the zip -> content."""
    yield "README.txt", _readme(folders).encode()
    for name in PINS:
        if (root / name).is_file():
            yield name, (root / name).read_bytes()
    for folder in folders:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            yield f"{RESULTS}/{folder.name}/{path.relative_to(folder).as_posix()}", path.read_bytes()
    for package in CODE:
        for path in sorted((root / package).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path.relative_to(root).as_posix(), path.read_bytes()


def _readme(folders: Sequence[Path]) -> str:
    from stages.reporting.published.layout import ABOUT

    abouts = [json.loads((folder / ABOUT).read_text(encoding="utf-8")) for folder in folders]
    commits = sorted({str(about["published"]["git"]["commit"])[:10] for about in abouts})
    protocols = sorted({str(about["protocol"]["version"] or "none") for about in abouts})
    pages = " ".join(f"{RESULTS}/{folder.name}/report/index.html" for folder in folders)
    return f"""Palimpsest, results of the studies: {", ".join(about["name"] for about in abouts)}.
Published at commit {", ".join(commits)}; version of the protocol: {", ".join(protocols)}.
To read: {pages} (needs no network), and the tables beside it.
To check: python -m venv env; . env/bin/activate; pip install -r requirements.lock
  python -m stages.verify {RESULTS}
That derives every table from the outcomes of single pictures and names the first cell that differs.
outcomes.csv.xz has a row per picture and a column per outcome; pandas.read_csv reads it as it is.
records.jsonl.xz has each run's settings, seed, commit, processor, versions and seconds.
study.json has the study, its metrics with their settings, and the sha256 of every other file.
The code in stages/ and Infinity/ is that of the project; pictures are not needed and not here, but for the page's.
"""


if __name__ == "__main__":
    sys.exit(main())
