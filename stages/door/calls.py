"""The entries of `stages`, run in this process: what a command of the front door calls."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any


def call(entry: str, *options: Any) -> None:
    """Runs `python -m stages.<entry>` with these options in this process; its errors are raised."""
    main = import_module(f"stages.{entry}").main
    main.__wrapped__([str(option) for option in options])  # beneath `entry`, which makes a line of an error


def code_of(entry: str, options: Sequence[str]) -> int:
    """The exit code of an entry, which says what was wrong by itself."""
    return int(import_module(f"stages.{entry}").main([*options]))
