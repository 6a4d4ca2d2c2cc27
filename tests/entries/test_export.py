"""What is exported does elsewhere what it did here: in the unmodified pipeline of diffusers, and in peft."""

import json
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from peft import PeftModel

from stages import export
from stages.interventions import load, save
from stages.interventions.base import Identity
from stages.interventions.embedding import Embedding, identity, initial_vectors
from stages.interventions.lowrank import LowRank, linear_layers
from stages.interventions.masks.mask import Mask
from stages.interventions.masks.places import find_places, sizes
from stages.interventions.membrane import Membrane, Permeability
from stages.interventions.weights import Weights

CALL = {"seeds": [1, 2], "steps": 3, "guidance": 3.0}
PROMPTS = ["a red circle", "a blue square"]


def exported(made):
    """The folder that the entry writes for it."""
    save(made, Path("run"))
    assert export.main(["--backbone", "tiny", "--run", "run", "--out", "out"]) == 0
    assert Path("out/record-export.json").is_file()
    return Path("out")


def pictures(backbone, made, prompts=PROMPTS):
    with made.attach(backbone):
        return backbone.sample(backbone.encode(prompts), **CALL)


def drawn(backbone, folder, prompts=PROMPTS, ready=lambda pipe: None):
    """Pictures of the unmodified pipeline."""
    pipe = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    ready(pipe)
    call = {"num_inference_steps": CALL["steps"], "guidance_scale": CALL["guidance"], "output_type": "pt"}
    return pipe(prompts, latents=backbone.noise(CALL["seeds"]), **call).images


def test_weights_of_network_and_text_encoder_become_a_checkpoint(project, backbone):
    text = next(
        name
        for name, _ in backbone.texts.encoders()["text_encoder"].named_parameters()
        if name.endswith("mlp.fc1.weight")
    )
    weights = Weights.copy(backbone, [*backbone.weights("cross_attn"), f"text_encoder.{text}"])
    for value in weights.parameters():
        value.data *= 1.5
    wanted = pictures(backbone, weights)
    found = drawn(backbone, exported(weights))
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)
    assert not torch.allclose(found, pictures(backbone, Identity()), atol=1e-3)


def test_binary_masks_become_a_checkpoint(project, backbone):
    places = find_places(backbone, ("heads", "hidden"))
    widths = sizes(backbone, places)
    generator = torch.Generator().manual_seed(0)
    scores = {name: (torch.rand(widths[name], generator=generator) > 0.5).float() for name in places}
    mask = Mask(scores, places, "binary")
    found = drawn(backbone, exported(mask))
    torch.testing.assert_close(found, pictures(backbone, mask), rtol=0, atol=1e-4)
    assert not torch.allclose(found, pictures(backbone, Identity()), atol=1e-3)


def test_a_lora_is_read_by_diffusers_and_by_peft(project, backbone):
    generator = torch.Generator().manual_seed(0)
    lora = LowRank.create(backbone, linear_layers(backbone, [0, 1]), 2, generator, scaling=0.5, spread=0.5)
    wanted, folder = pictures(backbone, lora), exported(lora)
    plain = "artifacts/backbones/tiny"
    found = drawn(backbone, plain, ready=lambda pipe: pipe.load_lora_weights(folder))
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)
    assert not torch.allclose(drawn(backbone, plain), wanted, atol=1e-3)

    def wrapped(pipe):
        pipe.unet = PeftModel.from_pretrained(pipe.unet, folder).merge_and_unload()

    torch.testing.assert_close(drawn(backbone, plain, ready=wrapped), wanted, rtol=0, atol=1e-4)


def test_membranes_are_one_lora_at_the_gate_that_is_asked_for(project, backbone):
    layers = linear_layers(backbone, [0, 1, 2])
    changes = [LowRank.create(backbone, layers, 1, torch.Generator().manual_seed(i), spread=0.3) for i in range(2)]
    made = Membrane.of(backbone, changes, [("red",), ("blue",)], Permeability("tokens"))
    save(made, Path("run"))
    assert export.main(["--backbone", "tiny", "--run", "run", "--out", "out", "--gate", "0.5"]) == 0
    assert json.loads(Path("out/record-export.json").read_text())["params"]["gate"] == 0.5
    wanted = pictures(backbone, made.fixed(0.5))
    backbone.save("plain")
    found = drawn(backbone, "plain", ready=lambda pipe: pipe.load_lora_weights("out"))
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)
    assert not torch.allclose(found, pictures(backbone, made), atol=1e-3)


def test_a_learned_word_is_read_by_diffusers(project, backbone):
    vectors = initial_vectors(backbone, "text_encoder", "a {}", "circle", "input") + 0.5
    identities = identity(backbone, ["text_encoder"])
    word = Embedding("<new>", "circle", {"text_encoder": vectors}, mode="input", template="a {}", identity=identities)
    prompts = ["a red <new>"] * 2
    file = str(exported(word) / "learned_embeds.safetensors")
    found = drawn(backbone, "artifacts/backbones/tiny", prompts, lambda pipe: pipe.load_textual_inversion(file))
    torch.testing.assert_close(found, pictures(backbone, word, prompts), rtol=0, atol=1e-4)


def test_what_acts_while_sampling_is_refused(project, capsys):
    save(Identity(), Path("run"))
    assert isinstance(load(Path("run")), Identity)
    assert export.main(["--backbone", "tiny", "--run", "run", "--out", "out"]) == 2
    assert "a Identity acts while pictures are sampled" in capsys.readouterr().err


def test_a_run_that_is_not_there_is_named(project, capsys):
    assert export.main(["--backbone", "tiny", "--run", "nowhere", "--out", "out"]) == 2
    assert "nowhere/intervention.json is missing" in capsys.readouterr().err
    assert not Path("out").exists()


def test_a_filled_folder_is_not_written_over_unless_asked_and_what_was_written_is_said(
    project, backbone, capsys, caplog
):
    caplog.set_level("INFO")
    out = exported(Weights.copy(backbone, backbone.weights("cross_attn")))
    assert caplog.messages[-1].startswith("Weights of tiny: out: ") and "model_index.json" in caplog.messages[-1]
    before = (out / "record-export.json").read_bytes()
    again = ["--backbone", "tiny", "--run", "run", "--out", "out"]
    assert export.main(again) == 2
    assert "error: out is not empty; choose another --out, or write over it with --force" in capsys.readouterr().err
    assert (out / "record-export.json").read_bytes() == before
    assert export.main([*again, "--force"]) == 0
