"""What every command answers to --help."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import sys
from pathlib import Path
from unittest import mock

from writing import page

from stages.door.app import app

ROOT = Path(__file__).resolve().parents[1]


def commands() -> str:
    """What every command of stages/ answers to --help."""
    made = ["One command per rule of the workflow. Each writes its result whole or not at all."]
    for stage in entries():
        made += [f"## stages.{stage}", f"```\n{help_of(stage)}\n```"]
    made.append("## palimpsest")
    made.append("The console script. Each of its commands calls one of those above, or a room of the library.")
    made += [f"```\n{help_of_command(name)}\n```" for name in command_names()]
    return page("Commands", *made)


def entries() -> list[str]:
    """The modules at the top of stages/ that are commands: those with a `main`."""
    files = sorted((ROOT / "stages").glob("*.py"))
    return [path.stem for path in files if "\ndef main(" in path.read_text(encoding="utf-8")]


def face() -> list[Path]:
    """The modules at the top of stages/ that are no commands."""
    return [path for path in sorted((ROOT / "stages").glob("*.py")) if path.stem not in entries()]


def help_of(stage: str) -> str:
    """The help of `python -m stages.STAGE`."""
    said = io.StringIO()
    with (
        mock.patch.object(sys, "argv", [f"python -m stages.{stage}"]),
        mock.patch.dict(os.environ, {"COLUMNS": "110", "NO_COLOR": "1"}),
        contextlib.redirect_stdout(said),
        contextlib.suppress(SystemExit),
    ):
        importlib.import_module(f"stages.{stage}").main(["--help"])
    return said.getvalue().strip()


def command_names() -> list[str]:
    """The commands of `palimpsest`, in the order of its help."""
    return [command.name or command.callback.__name__ for command in app.registered_commands]


def help_of_command(name: str) -> str:
    """The help of `palimpsest NAME`."""
    said = io.StringIO()
    with (
        mock.patch.dict(os.environ, {"COLUMNS": "110", "NO_COLOR": "1"}),
        contextlib.redirect_stdout(said),
        contextlib.suppress(SystemExit),
    ):
        app([name, "--help"], prog_name="palimpsest")
    return said.getvalue().strip()
