"""What samples are compared with is computed once, kept whole on disk, and never in memory as a list."""

import pytest
import torch

from stages.metrics import judged, references
from stages.metrics.frechet import moments
from stages.metrics.judged import real_features
from stages.metrics.references import kept, stamps, streamed_moments
from tests.metrics.test_base import drawn


def test_moments_of_batches_are_those_of_all_rows():
    rows = torch.randn(103, 7, generator=torch.Generator().manual_seed(0)) * 3 + 100
    for size in (1, 10, 103):
        for ours, wanted in zip(streamed_moments(rows.split(size)), moments(rows), strict=True):
            torch.testing.assert_close(ours, wanted, rtol=1e-10, atol=1e-10)
    with pytest.raises(ValueError, match="a covariance needs two rows at least, got 1"):
        streamed_moments(iter(rows[:1].split(1)))


def test_what_was_computed_for_the_same_question_is_read(caplog):
    made = []

    def make():
        made.append(1)
        return {"x": torch.arange(4.0).view(2, 2).T}

    asked = {"files": [["a", 1, 2]], "size": (3, 4)}
    assert all(torch.equal(kept(asked, make)["x"], make()["x"]) for _ in range(3)) and len(made) == 1 + 3
    kept(asked | {"size": (4, 4)}, make)
    assert len(made) == 5
    (path, _) = sorted(references.FOLDER.iterdir())
    path.write_bytes(b"broken")
    for _ in range(2):
        kept(asked, make), kept(asked | {"size": (4, 4)}, make)
    assert len(made) == 6 and "cannot be read" in caplog.text


def test_outside_a_project_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(references, "FOLDER", references.Path("artifacts/cache/references"))
    kept({"a": 1}, lambda: {"x": torch.ones(1)})
    assert not list(tmp_path.iterdir())


def test_renders_are_read_by_the_judge_once_for_all_runs(tmp_path, monkeypatch, told):
    (tmp_path / "judge.safetensors").write_bytes(b"weights")
    samples, calls = drawn(4), []
    plain = judged._rendered
    monkeypatch.setattr(judged, "_rendered", lambda *given: calls.append(1) or plain(*given))
    features = []
    for _ in range(2):  # two processes
        judged._real_features.cache_clear()
        features.append(real_features(str(tmp_path), samples, 16, 0))
    assert len(calls) == 1 and torch.equal(*features)
    before = stamps(tmp_path)
    (tmp_path / "judge.safetensors").write_bytes(b"other weights")
    judged._real_features.cache_clear()
    real_features(str(tmp_path), samples, 16, 0)
    assert len(calls) == 2 and stamps(tmp_path) != before
