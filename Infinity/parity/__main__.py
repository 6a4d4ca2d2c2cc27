"""Compare this implementation with recorded numbers: `python -m Infinity.parity FOLDER`.

FOLDER holds fixture.json (settings), inputs, outputs, grads, transformer and vae safetensors. Every check that the
folder has numbers for is run; one line each is printed, and the exit code is 1 when any fails.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from ..reading import CheckpointError
from .checks import run


def main(argv: list[str] | None = None, write: Callable[[str], None] = print) -> int:
    """Print every check; 0 when all pass, 1 when one fails, 2 when the folder cannot be read."""
    parser = argparse.ArgumentParser(prog="python -m Infinity.parity", description=__doc__.splitlines()[0])
    parser.add_argument("folder", help="a folder with fixture.json and its safetensors")
    parser.add_argument("--failed", action="store_true", help="print failed checks only")
    arguments = parser.parse_args(argv)
    checks = []
    try:
        for check in run(arguments.folder):
            checks.append(check)
            if not (arguments.failed and check.passed):
                write(str(check))
    except CheckpointError as error:
        parser.error(str(error))
    failed = sum(not check.passed for check in checks)
    write(f"{len(checks) - failed} of {len(checks)} checks passed")
    return 1 if failed or not checks else 0


if __name__ == "__main__":
    sys.exit(main())
