"""The table of where time goes, against records with known numbers."""

import json

from stages import bench


def write(folder, stage, phases, peak, **more):
    folder.mkdir(parents=True)
    content = {
        "stage": stage,
        "phases": dict(zip(("import", "set_up", "work"), phases, strict=True)),
        "peak_memory_mb": peak,
    }
    (folder / f"record-{stage}.json").write_text(json.dumps(content | more))


def test_medians_speed_and_peaks_per_stage(tmp_path, capsys):
    write(tmp_path / "a", "sample", (4, 1, 10), 500, notes={"images": 100})
    write(tmp_path / "b", "sample", (6, 1, 2), 700, notes={"images": 40})
    write(tmp_path / "c", "train", (5, 1, 3), 600, params={"class": "stages.methods.esd.ESD"})
    assert bench.main(["--artifacts", str(tmp_path)]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert lines[0] == ["sample", "2", "5.0", "1.0", "6.0", "15.0", "700", "1"]
    assert lines[1] == ["train", "ESD", "1", "5.0", "1.0", "3.0", "-", "600", "1"]


def test_gradients_by_steps_keep_no_more_for_more_steps(project, capsys):
    assert bench.main(["--stepwise", "tiny", "--artifacts", "artifacts"]) == 0
    found = json.loads((project / "artifacts/bench-stepwise.json").read_text())
    by_steps, whole = (list(found["saved_elements"][name].values()) for name in ("by steps", "whole graph"))
    assert max(by_steps) <= 1.1 * min(by_steps) and whole[-1] > 6 * whole[0]
    assert found["ratio"] > 0 and "by steps / whole graph" in capsys.readouterr().out


def test_no_records_say_what_to_run(tmp_path, capsys):
    assert bench.main(["--artifacts", str(tmp_path)]) == 2
    assert "make reproduce" in capsys.readouterr().err
