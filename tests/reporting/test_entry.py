"""The entry: what it writes, that it writes the same again, and what it says when something is missing."""

import shutil

import pytest


def test_the_same_inputs_give_the_same_bytes(done):
    def everything():
        folders = (done.artifacts / name for name in ("tables", "figures", "report"))
        return {path: path.read_bytes() for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()}

    before = everything()
    assert {path.name for path in before} >= {
        "results.csv",
        "summary.json",
        "tradeoff.csv",
        "tiny-sd-shapes-red.md",
        "tiny-sd-shapes-red-tradeoff.png",
        "tiny-sd-shapes-red-loss.png",
        "tiny-sd-shapes-red-grid-concept.png",
        "tiny-sd-shapes-red-grid-retain.png",
        "index.html",
    }
    assert done.report() == 0
    assert everything() == before


def test_a_run_that_is_not_there_is_named_and_the_rest_reported(make, caplog):
    tree = make()
    shutil.rmtree(tree.artifacts / "runs" / "sd-shapes" / "red" / "esd_u" / "1")
    assert tree.report() == 0
    assert "sd-shapes/red/esd_u/1" in caplog.text
    assert "sd-shapes/red/esd_u/1" in tree.text("report/index.html")
    assert "sd-shapes/red/esd_u/1" in tree.text("tables/tiny-sd-shapes-red.md")


@pytest.mark.parametrize("spoil", ["absent", "broken"])
def test_a_metric_file_that_is_absent_or_broken_is_one_line_and_exit_code_2(make, capsys, spoil):
    tree = make()
    path = tree.artifacts / "runs" / "sd-shapes" / "red" / "esd" / "0" / "metrics" / "tiny" / "frechet.json"
    path.unlink() if spoil == "absent" else path.write_text('{"rows": [')
    assert tree.report() == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith("error:") and "frechet.json" in message
    assert not (tree.artifacts / "tables").exists()


def test_a_study_without_any_result_or_file_is_one_line_and_exit_code_2(make, capsys):
    tree = make()
    shutil.rmtree(tree.artifacts / "runs" / "sd-shapes")
    assert tree.report() == 2
    assert "none of its 8 runs is measured" in capsys.readouterr().err
    assert type(tree)(tree.artifacts, tree.params, "tinyy").report() == 2
    assert "did you mean tiny?" in capsys.readouterr().err


def test_samples_without_metadata_are_one_line_and_exit_code_2(make, capsys):
    tree = make()
    (tree.artifacts / "runs/sd-shapes/red/esd/0/samples/tiny/retain/metadata.jsonl").unlink()
    assert tree.report() == 2
    assert "metadata.jsonl" in capsys.readouterr().err
