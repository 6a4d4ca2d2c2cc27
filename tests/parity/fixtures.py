"""Folders of reference numbers: where they are, what their manifest says, their tensors, and how near is equal."""

import json
import os
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests import ROOT

FOLDER = ROOT / os.environ.get("PALIMPSEST_FIXTURES", "../shared/fixtures")


class Fixtures:
    """One folder; a test module that opens one which is not there is skipped whole."""

    def __init__(self, name: str) -> None:
        self.folder = FOLDER / name
        if not (self.folder / "manifest.json").is_file():
            pytest.skip(f"no fixtures in {self.folder}", allow_module_level=True)
        self.manifest: dict[str, Any] = self.json("manifest.json")
        self.config: dict[str, Any] = self.manifest.get("config", {})

    def json(self, file: str) -> Any:
        return json.loads((self.folder / file).read_text())

    def tensors(self, file: str, prefix: str = "") -> dict[str, Tensor]:
        """The tensors of a file whose names begin with the prefix, by the rest of their names."""
        return below(load_file(self.folder / file), prefix)

    def files(self, start: str) -> list[str]:
        """The names of the manifest's files that begin so, in order."""
        return sorted(name for name in self.manifest["files"] if name.startswith(start))


def below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with the prefix, by the rest of their names."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def close(actual: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    """Equal within the tolerance times the largest entry."""
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance * float(expected.abs().max()) + 1e-12)


def close_gradients(actual: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float = 1e-4) -> None:
    """Gradients by name, each compared at the size of its largest entry."""
    assert set(actual) == set(expected)
    for name, value in expected.items():
        limit = tolerance * float(value.abs().max()) + 1e-9
        assert (actual[name] - value).abs().max() <= limit, name


def close_after_adam(actual: Tensor, expected: Tensor, gradient: Tensor, lr: float) -> None:
    """Values after a step of Adam, but for those whose gradient is so small that rounding decides their direction."""
    sure = gradient.abs() > 1e-6
    torch.testing.assert_close(actual[sure], expected[sure], rtol=0, atol=2e-2 * lr)
