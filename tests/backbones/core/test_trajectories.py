"""A pool knows the seed that it came from, in memory and in its file."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from stages.backbones.core.trajectories import Trajectories
from stages.store.tensors import Stored
from tests.backbones.families import FAMILIES

PROMPTS = ["a red circle", "a blue square"]


def test_a_file_carries_every_pools_seed(tmp_path):
    path, backbone, other = tmp_path / "pools.safetensors", FAMILIES["unet"].make(), FAMILIES["unet"].make()
    backbone.gather(PROMPTS, 7)
    other.gather([*PROMPTS, PROMPTS[0]], 7, into=path)
    assert not other.trajectories.pools
    again = Trajectories.read(path)
    assert again.seeds == dict.fromkeys(PROMPTS, 7) and again.kept == dict.fromkeys(PROMPTS, "all")
    assert all(torch.equal(again.pools[prompt][:], backbone.trajectories.pools[prompt]) for prompt in PROMPTS)
    plain = load_file(path)
    assert all(torch.equal(plain[prompt], backbone.trajectories.pools[prompt]) for prompt in PROMPTS)
    other.trajectories.update(again)
    other.gather(PROMPTS, 9)
    assert other.trajectories.seeds == again.seeds


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_file_is_read_by_rows_and_states(tmp_path, dtype, monkeypatch):
    """A draw reads one row at two states: no more of the file is ever a tensor."""
    values = torch.randn(5, 9, 2, 3, generator=torch.Generator().manual_seed(0)).to(dtype)
    Trajectories.write(tmp_path / "pools", ["a", ""], 3, 5, lambda prompt, seeds, states: values + len(prompt))
    read, sizes = Trajectories.read(tmp_path / "pools"), []
    monkeypatch.setattr("stages.store.tensors.check_tensors", lambda what, parts, advice: sizes.append(parts))
    memory = Trajectories()
    memory.pools = {"a": values + 1, "": values}
    for at in ([4, -1], [0, -1], slice(None)):
        drawn = [pools.draw(["a", "", "a"], torch.Generator().manual_seed(1), at) for pools in (read, memory)]
        assert torch.equal(*drawn) and drawn[0].dtype == dtype
    assert [len(parts) for parts in sizes] == [1] * 9
    assert {tuple(value.shape) for parts in sizes[:6] for value in parts.values()} == {(1, 2, 2, 3)}


def test_what_is_kept_of_a_run_is_what_is_asked_for(tmp_path):
    backbone, generator = FAMILIES["unet"].make(), torch.Generator().manual_seed(0)
    whole, condition = FAMILIES["unet"].make(), backbone.encode(PROMPTS[:1])
    whole.gather(PROMPTS[:1], 7)
    pool = whole.trajectories.pools[PROMPTS[0]]
    for states, places in (("final", [-1]), ("ends", [0, -1])):
        path = tmp_path / states
        backbone.gather(PROMPTS[:1], 7, states, into=path)
        backbone.trajectories = Trajectories.read(path)
        assert torch.equal(backbone.trajectories.pools[PROMPTS[0]][:], pool[:, places])
        (final,) = backbone.finals(condition, generator)
        assert any(torch.equal(final, end) for end in pool[:, -1])
        with pytest.raises(KeyError, match="no samples of 'a red circle' with all states"):
            backbone.draw(condition, generator)
    backbone.gather(PROMPTS[:1], 7)  # the rest is made where less is kept than is needed
    assert torch.equal(backbone.trajectories.pools[PROMPTS[0]], pool)


def test_what_a_job_gathers_beside_its_file_stays_on_disk_without_a_name(tmp_path):
    backbone, plain = FAMILIES["unet"].make(), FAMILIES["unet"].make()
    backbone.trajectories.folder = tmp_path
    backbone.gather(PROMPTS[:1], 7)
    backbone.gather(PROMPTS, 8, "ends")
    plain.gather(PROMPTS[:1], 7)
    plain.gather(PROMPTS, 8, "ends")
    assert not list(tmp_path.iterdir())
    assert all(isinstance(pool, Stored) for pool in backbone.trajectories.pools.values())
    assert all(torch.equal(backbone.trajectories.pools[p][:], plain.trajectories.pools[p]) for p in PROMPTS)
    assert (backbone.trajectories.seeds, backbone.trajectories.kept) == (
        plain.trajectories.seeds,
        plain.trajectories.kept,
    )


def test_samples_of_a_file_that_are_not_finite_are_refused_when_they_are_drawn(tmp_path):
    Trajectories.write(tmp_path / "pools", ["a"], 3, 2, lambda *_: torch.full((2, 3, 4), torch.nan))
    with pytest.raises(
        FloatingPointError, match="pools: not finite: 'a'; .* that draws no pictures; mend it and make it"
    ):
        Trajectories.read(tmp_path / "pools").draw(["a"], torch.Generator(), [0])


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
