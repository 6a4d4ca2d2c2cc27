"""Pictures, latents and trajectories that are not finite end the job, with prompt, seed, backbone and likely reason."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from stages import precompute, sample, train
from stages.backbones.core.finite import pictured
from stages.seeds import pool
from stages.store.finite import check_rows, check_tensors
from stages.store.pictures import to_pixels, write_sample
from stages.store.samples import draw
from tests.backbones.families import FAMILIES
from tests.backbones.tiny_infinity import make

ROWS = [{"index": 0, "prompt": "a red circle", "seed": 7}, {"index": 1, "prompt": "a blue\nsquare", "seed": 8}]
RUN = ["--backbone", "tiny", "--concept", "red"]


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_a_picture_that_is_not_finite_is_not_written(tmp_path, value):
    picture = torch.full((3, 2, 2), 0.5)
    picture[0, 0, 0] = value
    for one in (picture, picture.half(), torch.stack([picture, picture])):
        with pytest.raises(FloatingPointError, match="prompt 'a red circle', seed 7: .*force_upcast.*learning rate"):
            write_sample(tmp_path, ROWS[0], one)
    with pytest.raises(FloatingPointError, match="not finite"):
        to_pixels(picture)
    assert not list(tmp_path.iterdir())


def test_the_first_row_that_is_not_finite_is_named():
    values = torch.zeros(3, 4)
    check_rows("latent", values, "sd", ["a", "b", "c"], [1, 2, 3])
    values[1:, 2] = torch.nan
    with pytest.raises(FloatingPointError, match=r"sd: the latent of prompt 'b', seed 2, is not finite \(2 of 3\)"):
        check_rows("latent", values, "sd", ["a", "b", "c"], [1, 2, 3])
    with pytest.raises(FloatingPointError, match="run: not finite: 'a', 'b', 'c' and 1 more"):
        check_tensors("run", {name: torch.tensor([torch.nan]) for name in "abcd"} | {"e": torch.zeros(1)})
    check_tensors("bits", {"a": torch.zeros(1, dtype=torch.uint8)})


def test_any_backbones_broken_picture_is_told_with_prompt_seed_and_name():
    pictures = torch.rand(2, 3, 4, 4)
    pictures[1, 0, 0, 0] = torch.nan
    settings = SimpleNamespace(steps=1, guidance=1.0)
    broken = SimpleNamespace(name="mine", settings=settings, encode=list, sample=lambda *args, **kwargs: pictures)
    with pytest.raises(FloatingPointError, match=r"mine: .*prompt 'a blue\\nsquare', seed 8.*force_upcast"):
        draw(broken, ROWS)
    for seed in (-1, 2**64):
        with pytest.raises(ValueError, match=f"prompt 'a red circle': seed must be 0 to .*, got {seed}"):
            draw(broken, [ROWS[0] | {"seed": seed}])


def test_an_overflow_is_not_clamped_to_white():
    images = torch.tensor([-3.0, 0.0, 3.0, torch.inf, -torch.inf, torch.nan], dtype=torch.float16)
    found = pictured(images)
    assert found[:3].tolist() == [0.0, 0.5, 1.0] and found[3:].isnan().all() and found.dtype == torch.float16


@pytest.mark.parametrize("family", ["unet", "flux-dev", "cogvideox-2b"])
@pytest.mark.parametrize("part", ["net", "vae"])
def test_a_backbone_of_broken_weights_names_them(family, part):
    backbone = FAMILIES[family].make()
    name, value = list(backbone.modules()[part].named_parameters())[-1]
    value.data.view(-1)[0] = torch.nan
    with pytest.raises(FloatingPointError) as error:
        draw(backbone, ROWS)
    said = str(error.value)
    assert f"the weight {part}.{name} is not finite" in said and "'a red circle', seed 7" in said and "tiny: " in said
    if part == "net":
        with pytest.raises(FloatingPointError, match=rf"tiny: the trajectory of prompt 'a', seed {pool(0, 1)[0]}, "):
            backbone.gather(["a"], 0)


def test_a_decoder_that_overflows_names_the_precision(tmp_path):
    backbone = FAMILIES["unet"].make()
    backbone.vae.half()
    parameter = list(backbone.vae.decoder.parameters())[0]
    parameter.data.fill_(60000.0)
    with pytest.raises(FloatingPointError, match="the picture of prompt .*float16.*force_upcast"):
        draw(backbone, ROWS)


def test_bits_of_margins_that_are_not_finite_are_not_drawn():
    backbone = make()
    list(backbone.net.head.parameters())[0].data.view(-1)[0] = torch.nan
    with pytest.raises(
        FloatingPointError, match=r"tiny: the bits of prompt 'a red circle', seed 7, .*scale 0.*net\.head"
    ):
        draw(backbone, ROWS)
    with pytest.raises(FloatingPointError, match="prompt 'a', seed"):
        backbone.gather(["a"], 0)


def spoil():
    file = Path("artifacts/backbones/tiny/unet/diffusion_pytorch_model.safetensors")
    tensors = load_file(file)
    tensors["conv_out.bias"][:] = torch.nan
    save_file(tensors, file, {"format": "pt"})


def test_the_entries_end_in_one_line_and_leave_nothing(project, capsys):
    Path("params/methods/none.yaml").write_text("class: stages.methods.none.NoMethod\n")
    Path("sets.json").write_text(json.dumps({"sets": {"concept": ROWS}}))
    spoil()
    where = ["--method", "none", "--seed", "0", "--prompts", "sets.json", "--out", "samples"]
    assert sample.main([*RUN, *where]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: tiny: the latent of prompt 'a red circle', seed 7, is not finite (2 of 2)")
    assert "net.conv_out.bias" in error and not Path("samples/concept").exists()
    assert precompute.main([*RUN, "--seed", "0", "--out", "latents.safetensors"]) == 2
    assert "the trajectory of prompt 'a red shape'" in capsys.readouterr().err
    assert not Path("latents.safetensors").exists()


def test_trajectories_that_are_not_finite_are_not_trained_on(project, capsys):
    esd = "{class: stages.methods.esd.ESD, steps: 2, batch: 2, lr: 0.01, states: frozen}"
    Path("params/methods/esd.yaml").write_text(esd)
    pools = {"a red shape": torch.full((2, 4, 4, 8, 8), torch.nan)}
    save_file(pools, "latents.safetensors", {"seeds": json.dumps(dict.fromkeys(pools, 0))})
    where = ["--method", "esd", "--seed", "0", "--latents", "latents.safetensors", "--out", "run"]
    assert train.main([*RUN, *where]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert (
        "latents.safetensors: not finite: 'a red shape'" in error
        and "make it again with: python -m stages.precompute" in error
    )
    assert not list(Path("run").glob("intervention*"))
