"""Folders of reference numbers: where they are, what their manifest says, and their tensors."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from torch import Tensor

ROOT = Path(__file__).parents[2] / os.environ.get("PALIMPSEST_FIXTURES", "../shared/fixtures")


class Fixtures:
    """One folder; falsy where it is absent, so that parametrised tests collect nothing and `required` skips."""

    def __init__(self, name: str) -> None:
        self.folder = ROOT / name
        present = (self.folder / "manifest.json").is_file()
        self.manifest: dict[str, Any] = self.json("manifest.json") if present else {}
        self.required = pytest.mark.skipif(not present, reason=f"no fixtures in {self.folder}")

    @property
    def config(self) -> dict[str, Any]:
        return self.manifest.get("config", {})

    def json(self, file: str) -> Any:
        return json.loads((self.folder / file).read_text())

    def tensors(self, file: str) -> dict[str, Tensor]:
        return load_file(self.folder / file)

    def files(self, start: str) -> list[str]:
        """The names of the manifest's files that begin so, in order."""
        return sorted(name for name in self.manifest.get("files", {}) if name.startswith(start))
