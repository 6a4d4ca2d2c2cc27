"""A commit is checked by what `make lint` runs: the hooks and the Makefile name the same commands."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from tests import ROOT

CONFIG = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
HOOKS = [hook for repo in CONFIG["repos"] for hook in repo["hooks"]]


def plain(command: str) -> str:
    """A command without the ways in which a Makefile and a hook have to spell it: where tools and files are."""
    command = command.replace("$(MAKE) --no-print-directory", "make")
    return command.replace(".venv/bin/", "").replace(" --force-exclude", "").removesuffix(" .")


def recipe(target: str) -> list[str]:
    """The commands of one target of the Makefile."""
    text = (ROOT / "Makefile").read_text()
    body = re.search(rf"^{target}:.*\n((?:\t.*\n)+)", text, re.MULTILINE)
    assert body is not None, target
    return [line.strip() for line in body[1].splitlines()]


def test_hooks_run_what_make_lint_runs() -> None:
    assert [plain(hook["entry"]) for hook in HOOKS] == [plain(command) for command in recipe("lint")]


@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: hook["id"])
def test_hooks_take_the_projects_own_tools_and_no_network(hook: dict[str, object]) -> None:
    assert hook["language"] == "system"
    assert str(hook["entry"]).startswith((".venv/bin/", "make "))


def test_a_hook_of_types_looks_at_every_file_that_is_typed_and_at_its_settings() -> None:
    (mypy,) = [hook for hook in HOOKS if hook["id"] == "mypy"]
    for path in ("Infinity/transformer.py", "stages/params/check.py", "pyproject.toml"):
        assert Path(ROOT, path).is_file() and re.search(mypy["files"], path), path


def test_no_room_is_left_out_of_the_type_check() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]
    assert settings["files"] == ["Infinity", "stages"] and settings["disallow_untyped_defs"]
    for rule in [settings, *settings["overrides"]]:
        assert not rule.get("ignore_errors") and "exclude" not in rule
        assert not any(name.startswith(("stages", "Infinity")) for name in rule.get("module", []))
