"""A copy of params/ and data/ that a test may change."""

import shutil
from pathlib import Path

import pytest

from tests import ROOT
from tests.params.mini import STUDY, write


@pytest.fixture
def params(tmp_path: Path) -> Path:
    """A copy of params/ and data/, with a small study `mini`."""
    for part in ("params", "data"):
        shutil.copytree(ROOT / part, tmp_path / part)
    write(tmp_path / "params", "studies/mini", STUDY)
    return tmp_path / "params"
