"""What every entry shares: one clear line and exit code 2 for wrong input, logging, and a fixed number of threads."""

from __future__ import annotations

import argparse
import functools
import logging
import signal
import sys
import warnings
from collections.abc import Sequence
from typing import Protocol

from stages.launch import fork_server
from stages.launch.environment import environment

MISPLACED = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
WRONG_INPUT = (ValueError, KeyError, FloatingPointError, *MISPLACED)


class Main(Protocol):
    """An entry: the command line, by default the process's own, to the exit code."""

    def __call__(self, argv: Sequence[str] | None = None) -> int: ...


def entry(main: Main) -> Main:
    """Turns the errors of wrong input into one line on stderr and exit code 2; anything else is a bug and shows.

    A command whose study has a fork server is run by that one. Ctrl-C ends it without a word: whoever pressed it knows.
    """

    @functools.wraps(main)
    def wrapped(argv: Sequence[str] | None = None) -> int:
        if argv is None and (code := fork_server.handed_over()) is not None:
            return code
        log_to_stderr()
        try:
            return main(argv) or 0
        except KeyboardInterrupt:
            return 128 + signal.SIGINT
        except WRONG_INPUT as error:
            sys.stderr.write(f"error: {one_line(error)}\n")
            return 2

    return wrapped


def one_line(error: Exception) -> str:
    """What an error says, without line breaks."""
    message = error.args[0] if isinstance(error, KeyError) and error.args else error
    return " ".join(str(message).split())


def log_to_stderr() -> None:
    """Messages from INFO on go to stderr, equal ones once; what libraries say of their own future does not."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(Once())
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s", handlers=[handler])
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", message=".*local_dir_use_symlinks")
    for name in CHATTERING:
        logging.getLogger(name).setLevel(logging.ERROR)


CHATTERING = ("httpx", "filelock", "fsspec", "huggingface_hub")  # without a network, each retry of each file


class Once(logging.Filter):
    """Lets each message through once in a command."""

    def __init__(self) -> None:
        super().__init__()
        self.said: set[tuple[str, str]] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        message = (record.name, record.getMessage())
        new = message not in self.said
        self.said.add(message)
        return new


def parser(description: str | None, *options: str) -> argparse.ArgumentParser:
    """A parser with `--threads`, `--out` and the named ones of the options that entries share."""
    parser = argparse.ArgumentParser(description=description)
    for option in options:
        kind = {"seed": int}.get(option, str)
        parser.add_argument(f"--{option}", type=kind, required=True, help=HELP[option])
    parser.add_argument("--out", required=True, help="where the result goes")
    parser.add_argument(
        "--threads", type=int, default=1, help="of the processor; results are bit-equal only for one number"
    )
    return parser


HELP = {
    "study": "a file of params/studies/",
    "backbone": "a file of params/backbones/",
    "concept": "a file of params/concepts/",
    "method": "a file of params/methods/",
    "seed": "of training and, as an offset, of sampling",
    "prompts": "the prompt sets that stages.prepare wrote",
}


def set_up(threads: int) -> None:
    """Fixes what numbers depend on: threads, deterministic kernels, and no chatter from the model libraries."""
    if threads < 1:
        raise ValueError(f"--threads must be 1 or more, got {threads}")
    environment(threads)
    import torch

    torch.set_num_threads(threads)
    torch.set_deterministic_debug_mode("warn")  # use_deterministic_algorithms would import the compiler, for a second
    # Filling memory that is written before it is read costs time and changes no number.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # torch's stubs lack it
