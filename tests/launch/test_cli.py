"""What every command says and how it ends."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SAYS = """
import logging
from stages.launch.cli import entry

@entry
def main(argv=None):
    for _ in range(12):
        logging.getLogger("metric").warning("too few")
    logging.getLogger("huggingface_hub.utils").warning("Retrying in 1s")
    {last}

import sys
sys.exit(main([]))
"""


def said(last: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-c", SAYS.format(last=last)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stderr


def test_equal_messages_are_said_once_and_retries_not_at_all() -> None:
    assert said("return 0") == (0, "metric: too few\n")


def test_an_interrupt_ends_a_command_without_a_traceback() -> None:
    assert said("raise KeyboardInterrupt") == (130, "metric: too few\n")


def test_only_the_command_line_knows_the_fork_server() -> None:
    for path in (ROOT / "stages").rglob("*.py"):
        if path.parent.name != "launch":
            assert "fork_server" not in path.read_text(), path
