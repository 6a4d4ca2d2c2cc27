"""What is written is whole or absent, and readable by whom the umask lets read."""

import os

import pytest
import torch
from safetensors.torch import save_file

from stages.store.files import UMASK, digest, replacing, write_text


def test_a_failed_write_leaves_what_was_there(tmp_path):
    write_text(tmp_path / "a", "old")
    with pytest.raises(KeyboardInterrupt), replacing(tmp_path / "a") as temporary:
        temporary.write_text("ne")
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["a"] and (tmp_path / "a").read_text() == "old"


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o007, 0o660)])
def test_files_and_folders_are_shared_as_the_umask_says(tmp_path, monkeypatch, mask, mode):
    monkeypatch.setattr("stages.store.files.UMASK", mask)
    with replacing(tmp_path / "file") as temporary:
        save_file({"a": torch.zeros(1)}, temporary)
    with replacing(tmp_path / "folder") as temporary:
        temporary.mkdir()
        save_file({"a": torch.zeros(1)}, temporary / "inside")
    assert all((tmp_path / name).stat().st_mode & 0o777 == mode for name in ("file", "folder/inside"))
    assert digest(tmp_path / "file") == digest(tmp_path / "folder/inside")


def test_the_umask_stays_and_what_a_link_points_to_keeps_its_permissions(tmp_path):
    before = os.umask(UMASK)
    assert before == UMASK
    (tmp_path / "own").touch(mode=0o600)
    with replacing(tmp_path / "folder") as temporary:
        temporary.mkdir()
        (temporary / "link").symlink_to(tmp_path / "own")
    assert (tmp_path / "folder/link").is_symlink() and (tmp_path / "own").stat().st_mode & 0o777 == 0o600
