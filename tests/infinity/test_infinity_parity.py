"""Parity with recorded numbers: every folder under the fixtures whose manifest describes an Infinity model."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from Infinity.parity.__main__ import main
from Infinity.parity.checks import run
from tests.parity.fixtures import FOLDER


def folders() -> list[Path]:
    manifests = sorted(FOLDER.rglob("fixture.json")) if FOLDER.is_dir() else []
    return [path.parent for path in manifests if "infinity" in json.loads(path.read_text()).get("config", {})]


FOLDERS = folders()
pytestmark = pytest.mark.skipif(not FOLDERS, reason="no Infinity fixtures here")


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_every_recorded_number_is_reproduced(folder):
    checks = list(run(folder))
    assert not [str(check) for check in checks if not check.passed]
    assert {check.name.split(".")[0].split("_")[0] for check in checks} >= {"schedule", "vae", "bsc", "train", "infer"}


def test_a_wrong_weight_is_seen_and_sets_the_exit_code(tmp_path):
    shutil.copytree(FOLDERS[0], tmp_path, dirs_exist_ok=True, copy_function=shutil.copyfile)
    path = tmp_path / "transformer.safetensors"
    state = load_file(path)
    state["head.bias"] = state["head.bias"] + 1e-3 * torch.arange(len(state["head.bias"]))
    path.unlink()
    save_file(state, path)
    lines: list[str] = []
    assert main([str(tmp_path), "--failed"], write=lines.append) == 1
    assert any("FAIL train.logits" in line for line in lines)


def test_a_folder_without_a_manifest_exits_with_2(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([str(tmp_path)])
    assert stopped.value.code == 2 and "holds no fixture.json" in capsys.readouterr().err
