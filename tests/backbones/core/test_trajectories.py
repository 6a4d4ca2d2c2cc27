"""A pool knows the seed that it came from, in memory and in its file."""

import pytest
import torch
from safetensors.torch import save_file

from stages.backbones.core.trajectories import Trajectories
from tests.backbones.families import FAMILIES

PROMPTS = ["a red circle", "a blue square"]


def test_a_file_carries_every_pools_seed(tmp_path):
    backbone = FAMILIES["unet"].make()
    backbone.gather(PROMPTS[:1], 7)
    backbone.gather(PROMPTS, 8)
    backbone.trajectories.save(tmp_path / "pools.safetensors")
    again = Trajectories.read(tmp_path / "pools.safetensors")
    assert again.seeds == {PROMPTS[0]: 7, PROMPTS[1]: 8}
    assert all(torch.equal(again.pools[prompt], backbone.trajectories.pools[prompt]) for prompt in PROMPTS)
    other = FAMILIES["unet"].make()
    other.trajectories.update(again)
    other.gather(PROMPTS, 9)
    assert other.trajectories.seeds == again.seeds


def test_a_file_without_seeds_or_damaged_or_missing_is_refused_in_one_line(tmp_path):
    path = tmp_path / "pools.safetensors"
    save_file({"a red circle": torch.zeros(2, 3)}, path)
    with pytest.raises(ValueError, match="does not say from which seed the trajectories of 'a red circle' came"):
        Trajectories.read(path)
    path.write_bytes(path.read_bytes()[:10])
    with pytest.raises(ValueError, match=r"pools.safetensors: not a whole safetensors file \("):
        Trajectories.read(path)
    with pytest.raises(FileNotFoundError, match=r"absent.safetensors is missing; make it with: "):
        Trajectories.read(tmp_path / "absent.safetensors")


def test_samples_that_are_not_finite_are_not_kept():
    backbone = FAMILIES["unet"].make()
    backbone.net.conv_out.bias.data[:] = float("nan")
    with pytest.raises(FloatingPointError, match="tiny: the trajectory of prompt 'a red circle', seed"):
        backbone.gather(PROMPTS, 0)
    assert not backbone.trajectories.pools


def test_a_prompt_without_a_pool_is_named():
    with pytest.raises(KeyError, match="no samples of 'a red circle'"):
        Trajectories().draw(PROMPTS, torch.Generator(), [0])
