"""verify: published results derived again from single pictures' outcomes, by the functions that printed them."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from stages.launch.cli import entry, set_up
from stages.params.project import located

log = logging.getLogger("verify")


@entry
def main(argv: Sequence[str] | None = None) -> int:
    """Derives every table of a folder of published results, or of each folder in it, and compares; needs no weights.

    The first cell that differs, or a file that is damaged or missing, is one line and exit code 2.
    """
    options = argparse.ArgumentParser(description=main.__doc__)
    options.add_argument("folder", nargs="?", help="(default: docs/results)")
    options.add_argument("--threads", type=int, default=1)
    args = options.parse_args(argv)
    set_up(args.threads)
    from stages.reporting.published.verifying import published_in, verify

    for folder in published_in(Path(args.folder or located("docs/results"))):
        log.info("%s", verify(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
