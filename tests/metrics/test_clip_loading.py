"""CLIP is loaded as every checkpoint is: no pickles, one line when it is missing, on the GPU if there is one."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import CLIPModel

from stages.metrics.clip_score import load_clip


def test_a_missing_one_is_named_with_the_command_that_brings_it(monkeypatch):
    def fail(*args, **kwargs):
        raise OSError("no connection")

    monkeypatch.setattr(CLIPModel, "from_pretrained", fail)
    with pytest.raises(FileNotFoundError, match=r"someone/clip: config\.json .* run: hf download someone/clip"):
        load_clip("someone/clip")


def test_pickles_are_refused(clip_folder, tmp_path):
    folder = Path(shutil.copytree(clip_folder, tmp_path / "clip"))
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"clip: cannot be loaded: .*model\.safetensors"):
        load_clip(str(folder))


@pytest.mark.parametrize("there", [True, False])
def test_it_goes_to_the_gpu_if_there_is_one(clip_folder, monkeypatch, there):
    devices = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    monkeypatch.setattr(CLIPModel, "to", lambda self, device: devices.append(device) or self)
    load_clip.__wrapped__(clip_folder)
    assert devices == ["cuda" if there else "cpu"]
