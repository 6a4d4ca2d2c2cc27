"""Several sets of pictures appear together, or the ones from before stay."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from stages.store.samples import write_folders


class Painter:
    """Draws every prompt in one grey, and breaks at a prompt that it does not know."""

    settings = SimpleNamespace(batch=2, steps=1, guidance=1.0)

    def __init__(self, grey: float) -> None:
        self.grey = grey

    def encode(self, prompts):
        if "broken" in prompts:
            raise RuntimeError("out of memory")
        return prompts

    def sample(self, condition, *, seeds, steps, guidance):
        return torch.full((len(condition), 3, 4, 4), self.grey)


def rows(*prompts: str) -> list[dict]:
    return [{"index": i, "prompt": prompt, "seed": i} for i, prompt in enumerate(prompts)]


def test_a_set_that_fails_leaves_all_sets_from_before(tmp_path: Path) -> None:
    concept, retain = tmp_path / "concept", tmp_path / "retain"
    write_folders(Painter(0.2), {concept: rows("a", "b", "c"), retain: rows("d")})
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()}
    assert len(before) == 6
    with pytest.raises(RuntimeError):
        write_folders(Painter(0.8), {concept: rows("a", "b", "c"), retain: rows("broken")})
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()} == before
    write_folders(Painter(0.8), {concept: rows("a")})
    assert len(list(concept.glob("*.png"))) == 1 and (concept / "0000.png").read_bytes() != before[concept / "0000.png"]
