"""Ctrl-C on a whole run: it ends at once, with one line instead of an error for each job that ended with it."""

from __future__ import annotations

import logging
import signal
import sys
import traceback
from types import FrameType, TracebackType

SAID = "\nstopped; the same command goes on where this one was\n"


def end_quietly(log: logging.Logger) -> None:
    """From now on Ctrl-C says one line, and no error of `log` or traceback that follows from it. Main thread alone."""
    signal.signal(signal.SIGINT, lambda number, frame: _stop(log, number, frame))


def _stop(log: logging.Logger, _number: int, _frame: FrameType | None) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a second one has no time for what follows
    log.addFilter(lambda record: record.levelno < logging.ERROR)
    sys.excepthook = _report
    sys.stderr.write(SAID)
    raise KeyboardInterrupt


def _report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Shows what ended the process, unless that was the interrupt, or a loop that it broke into."""
    if not issubclass(kind, KeyboardInterrupt | RuntimeError):
        traceback.print_exception(kind, error, trace)
