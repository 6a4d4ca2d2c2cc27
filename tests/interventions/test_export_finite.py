"""An export does elsewhere what it does here, and holds no numbers that are not finite."""

from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file, save_file

from stages import export
from stages.interventions import load, save
from stages.interventions.lowrank import LowRank, linear_layers
from stages.interventions.weights import Weights
from stages.methods.textual_inversion import TextualInversion

CALL = {"seeds": [1, 2], "steps": 3, "guidance": 3.0}
PICTURES = str(Path(__file__).parents[2] / "data/yellow_cross")


def learned(backbone, concept, **settings):
    word = {"data": PICTURES, "alias": "<new>", "shared": True, "steps": 2, "batch": 2, "lr": 0.3} | settings
    return TextualInversion(**word).fit(backbone, concept, seed=0)


@pytest.mark.parametrize(
    "settings",
    [{"vectors": 3, "initialiser": "circle"}, {"initialiser": "blue circle"}, {"initialiser": "circle"}],
    ids=["three", "long", "one"],
)
def test_a_shared_vector_draws_the_same_in_the_unmodified_pipeline(backbone, concept, tmp_path, settings):
    word = learned(backbone, concept, **settings)
    assert all(len(rows) == 1 for rows in word.tensors().values())
    prompts = ["a photo of a <new>", "a red <new>"]
    with word.attach(backbone):
        wanted = backbone.sample(backbone.encode(prompts), **CALL)
    save(word, tmp_path / "run")
    backbone.save(tmp_path / "sd")
    pipe = StableDiffusionPipeline.from_pretrained(tmp_path / "sd", safety_checker=None, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    (path,) = load(tmp_path / "run").export(tmp_path, backbone)
    assert path == word.export(tmp_path)[0]
    pipe.load_textual_inversion(str(path))
    given = {"latents": backbone.noise(CALL["seeds"]), "output_type": "pt"}
    found = pipe(prompts, num_inference_steps=3, guidance_scale=3.0, **given).images
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)


def test_one_vector_of_an_unknown_number_of_tokens_asks_for_the_backbone(backbone, concept, tmp_path):
    save(learned(backbone, concept, initialiser="blue circle"), tmp_path)
    with pytest.raises(ValueError, match=r"<new> has one vector for all its tokens: export\(folder, backbone\)"):
        load(tmp_path).export(tmp_path)


def broken(folder, made):
    """The run's files with the last tensor's first number replaced by NaN."""
    save(made, folder)
    path = folder / "intervention.safetensors"
    tensors = load_file(path)
    name = sorted(tensors)[-1]
    tensors[name].view(-1)[0] = torch.nan
    save_file(tensors, path, {"format": "pt"})
    return name


@pytest.mark.parametrize("kind", ["weights", "lora", "word"])
def test_an_export_of_numbers_that_are_not_finite_is_refused_with_their_names(project, backbone, concept, capsys, kind):
    if kind == "weights":
        made = Weights.copy(backbone, backbone.weights("cross_attn"))
    elif kind == "lora":
        made = LowRank.create(backbone, linear_layers(backbone, [0]), 2, torch.Generator().manual_seed(0))
    else:
        made = learned(backbone, concept, initialiser="circle")
    name = broken(Path("run"), made)
    assert export.main(["--backbone", "tiny", "--run", "run", "--out", "out"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and "not finite" in error and name in error and "learning rate" in error
    assert not list(Path("out").rglob("*.safetensors"))


def test_a_checkpoint_whose_own_weights_are_not_finite_is_not_exported(project, backbone, capsys):
    save(Weights.copy(backbone, backbone.weights("cross_attn")), Path("run"))
    file = Path("artifacts/backbones/tiny/unet/diffusion_pytorch_model.safetensors")
    tensors = load_file(file)
    tensors["conv_out.bias"][0] = torch.inf
    save_file(tensors, file, {"format": "pt"})
    assert export.main(["--backbone", "tiny", "--run", "run", "--out", "out"]) == 2
    assert "tiny: net: not finite: 'conv_out.bias'" in capsys.readouterr().err and not Path("out/unet").exists()


def test_an_intervention_that_is_not_finite_is_not_saved(backbone, tmp_path):
    weights = Weights.copy(backbone, backbone.weights("cross_attn"))
    next(weights.parameters()).data.fill_(torch.inf)
    with pytest.raises(FloatingPointError, match="not finite in down_blocks"):
        save(weights, tmp_path)
    assert not list(tmp_path.iterdir())
