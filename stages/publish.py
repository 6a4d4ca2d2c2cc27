"""publish: the results of a finished study as a folder that git can hold and stages.verify checks."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from stages.launch.cli import entry, set_up
from stages.params.layout import ARTIFACTS
from stages.params.project import home, located

log = logging.getLogger("publish")


@entry
def main(argv: Sequence[str] | None = None) -> int:
    """Writes single pictures' outcomes, records, the tables that follow from them, and the page with fewer pictures."""
    options = argparse.ArgumentParser(description=main.__doc__)
    options.add_argument("--study", required=True, help="a file of params/studies/ whose runs are all measured")
    options.add_argument("--artifacts", help="the artifacts tree (default: artifacts)")
    options.add_argument("--params", default="params", help="folder of the params files (default: params)")
    options.add_argument("--out", help="the folder to write (default: docs/results/<study>)")
    options.add_argument("--megabytes", type=float, default=20.0, help="that it may have at most (default: 20)")
    options.add_argument("--threads", type=int, default=1)
    args = options.parse_args(argv)
    set_up(args.threads)
    from stages.reporting.published.publishing import publish

    out = Path(args.out or home() / f"docs/results/{args.study}")
    artifacts = Path(args.artifacts or located(ARTIFACTS))
    said = publish(args.study, artifacts, out, params=args.params, megabytes=args.megabytes)
    log.info("%s", said)
    return 0


if __name__ == "__main__":
    sys.exit(main())
