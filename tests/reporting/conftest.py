"""A finished study, made once: two seeds of four methods on one backbone, and what `stages.report` makes of it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from stages import report
from stages.params.names import sweep
from stages.reporting.collect import collect
from stages.reporting.collected import Cell, Collected
from tests import ROOT
from tests.reporting.synthetic import write_params, write_run

METHODS = ("none", "esd", "esd_u", "oracle")
SEEDS = (0, 1)


@dataclass(frozen=True)
class Tree:
    """Where a synthetic study lies."""

    artifacts: Path
    params: Path
    name: str = "tiny"
    cell: Cell = Cell("sd-shapes", "red", "erase", "target_rate")

    def collect(self) -> Collected:
        return collect(self.name, self.artifacts, self.params)

    def report(self, *options: str) -> int:
        return report.main(["--study", self.name, "--out", f"{self.artifacts}", "--params", f"{self.params}", *options])

    def text(self, path: str) -> str:
        return (self.artifacts / path).read_text(encoding="utf-8")


def build(
    root: Path,
    methods: tuple[str, ...] = METHODS,
    seeds: tuple[int, ...] = SEEDS,
    frames: int = 1,
    concepts: tuple[str, ...] = ("red",),
    swept: dict | None = None,
    sizes: dict[str, int] | None = None,
) -> Tree:
    """Writes the params and the artifacts of a study."""
    cells = [{"backbones": ["sd-shapes"], "concepts": list(concepts), "methods": list(methods)}]
    if swept:
        cells[0]["sweep"] = swept
        methods = (*methods, *sweep(**swept))
    params = write_params(root, ROOT / "params", name="tiny", cells=cells, seeds=seeds)
    for concept in concepts:
        for method in methods:
            for seed in seeds:
                write_run(
                    root / "artifacts", ("sd-shapes", concept, method, seed), "tiny", frames=frames, **(sizes or {})
                )
    return Tree(root / "artifacts", params)


@pytest.fixture(scope="session")
def done(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """A study with its report; tests read it only."""
    tree = build(tmp_path_factory.mktemp("report"))
    assert tree.report() == 0
    return tree


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Tree]:
    """Builds a study of one's own."""
    return lambda *args, **options: build(tmp_path, *args, **options)
