"""erase: a concept named in words out of one backbone, with its pictures before and after, numbers, files and card."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from stages.launch.cli import entry, set_up

log = logging.getLogger("erase")


@entry
def main(argv: Sequence[str] | None = None) -> int:
    """Makes a concept of words, fits a method, samples, measures and exports; writes a study that can be run again.

    Whatever can be known to be wrong is refused before anything is written or trained.
    """
    options = argparse.ArgumentParser(description=main.__doc__)
    options.add_argument("--backbone", required=True, help="a file of params/backbones/")
    options.add_argument("--words", required=True, help="what the concept is called, such as 'Van Gogh'")
    options.add_argument("--kind", default="", help="object, style, person, attribute or sensitive")
    options.add_argument("--method", default="esd_x", help="a file of params/methods/ (default: esd_x)")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--pictures", type=int, default=24, help="to measure on, of each set (default: 24)")
    options.add_argument("--synonym", action="append", default=[], help="another word for it; may be repeated")
    options.add_argument("--neutral", default="", help="what stands in its place, such as 'an animal'")
    options.add_argument("--name", default="", help="of the concept's file (default: the words)")
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--out", required=True, help="a folder that is empty or not there")
    args = options.parse_args(argv)
    set_up(args.threads)
    from stages.door.erasing import Erasure

    given = vars(args) | {"synonyms": tuple(args.synonym), "out": Path(args.out)}
    done = Erasure(**{key: value for key, value in given.items() if key != "synonym"}).run()
    log.info("%s", done.said)
    written = ", ".join(sorted(path.name for path in done.out.iterdir()))
    log.info("%s: %s; the study is params/studies/%s.yaml", done.out, written, done.study)
    return 0


if __name__ == "__main__":
    sys.exit(main())
