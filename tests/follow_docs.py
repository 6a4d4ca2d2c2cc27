"""What the documents promise, done in a copy of the project that holds their files: run there, prints JSON.

The weights are random and small, so pictures are noise; that each part is found, built and run is what is shown.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL

from stages.backbones import load_backbone
from stages.backbones.loading.by_name import load_settings
from stages.params import build, load_params
from stages.params.concept import load_concept
from stages.params.study import fitting, load_study
from stages.worlds.words import make_tokenizer

TINY, LIKE = Path("artifacts/backbones/sd-tiny"), Path("checkpoints/my-sd")


def main() -> None:
    """Every promise, by name."""
    write_weights()
    done = {
        "studies": {name: sorted({run.method for run in load_study(name).runs}) for name in sys.argv[1:]},
        "all": fitting("sd-shapes", "red"),
        "methods": {name: method(name) for name in ("quiet", "redirect")},
        "attack": attack(),
        "metric": metric(),
        "checkpoint": checkpoint(),
        "prompts": prompts(),
        "tutorial": commands(Path("docs/tutorial.md")),
        "readme": snippet(Path("README.md")),
        "concepts": heredocs(Path("README.md")),
    }
    print(json.dumps(done))


def write_weights() -> None:
    """A small random Stable Diffusion as the backbone sd-tiny and as the checkpoint of the page on checkpoints."""
    cls, settings = load_settings("sd-tiny")
    sides = {"down_block_types": ["DownEncoderBlock2D"] * 3, "up_block_types": ["UpDecoderBlock2D"] * 3}
    vae = AutoencoderKL(block_out_channels=(8, 8, 8), norm_num_groups=4, latent_channels=4, **sides)
    backbone = cls.create("sd-tiny", settings, make_tokenizer(), vae, 0)
    backbone.save(TINY)
    shutil.copytree(TINY, LIKE)


def method(name: str) -> str:
    """What a method of the pages fits on the tiny backbone; its pictures differ from the unedited ones."""
    from stages.methods import load_method

    backbone, concept = load_backbone("sd-tiny"), load_concept("blue")
    intervention = load_method(name, "sd-tiny").fit(backbone, concept, seed=0)
    how = {"seeds": [0], "steps": 2, "guidance": 3.0}
    condition = backbone.encode(["a blue circle"])
    plain = backbone.sample(condition, **how)
    with intervention.attach(backbone):
        assert not torch.equal(backbone.sample(condition, **how), plain)
    assert torch.equal(backbone.sample(condition, **how), plain)
    return type(intervention).__name__


def attack() -> list[str]:
    """The prompts that `detour` finds."""
    from stages.attacks.base import load_attack

    return list(load_attack("detour", "sd-tiny").search(load_backbone("sd-tiny"), load_concept("red"), seed=0).prompts)


def metric() -> list[dict[str, Any]]:
    """The rows of `saturation` for grey pictures beside red ones."""
    from stages.metrics.base import Samples, measure

    rows = [{"prompt": f"prompt {i}", "seed": i} for i in range(4)]
    grey, red = torch.full((4, 3, 8, 8), 0.5), torch.zeros(4, 3, 8, 8)
    red[:, 0] = 1.0
    sides = [{"concept": Samples(images, rows, {"colour": "red"})} for images in (grey, red)]
    return measure(build(load_params("metrics", "saturation"), "here"), "saturation", *sides)["rows"]


def checkpoint() -> list[int]:
    """The shape of a picture by the checkpoint that is `like` another one."""
    backbone = load_backbone("my-sd")
    return list(backbone.sample(backbone.encode(["a dog"]), seeds=[0], steps=2, guidance=3.0).shape)


def prompts() -> dict[str, list[str]]:
    """The styles of the prompt sets of the concept with a table of its own."""
    from stages.prepare import main as prepare

    assert prepare(["--study", "van_gogh", "--concept", "my_van_gogh", "--out", "sets.json"]) == 0
    sets = json.loads(Path("sets.json").read_text())["sets"]
    return {name: sorted({row["style"] for row in rows}) for name, rows in sets.items()}


def commands(page: Path) -> list[str]:
    """The tutorial's own commands of this project and its Python, on the tiny backbone; what they leave behind."""
    text = tiny(page.read_text(encoding="utf-8"))
    training, exporting = re.findall(r"^python -m (stages\.\w+ .*)$", text, re.MULTILINE)
    run(training)
    exec(re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0], {})
    run(exporting)
    return sorted(str(path) for folder in ("runs", "exported") for path in Path(folder).glob("*/*.json")) + sorted(
        str(path) for path in Path("runs").glob("*.png")
    )


def snippet(page: Path) -> list[int]:
    """README's Python on the tiny backbone: the shape of its pictures."""
    scope: dict[str, Any] = {}
    exec(re.findall(r"```python\n(.*?)```", tiny(page.read_text(encoding="utf-8")), re.DOTALL)[0], scope)
    return list(scope["images"].shape)


def heredocs(page: Path) -> list[str]:
    """The concepts that README's shell writes: what each retains first."""
    written = re.findall(
        r"^cat > params/concepts/(\w+)\.yaml <<END\n(.*?)^END$", page.read_text(), re.DOTALL | re.MULTILINE
    )
    for name, text in written:
        Path(f"params/concepts/{name}.yaml").write_text(text, encoding="utf-8")
    return [load_concept(name).retain[0] for name, _ in written]


def tiny(text: str) -> str:
    """The text with the backbone that has weights here."""
    return text.replace("sd-shapes", "sd-tiny")


def run(command: str) -> None:
    """A command of stages/, in this process."""
    module, *words = shlex.split(command)
    assert import_module(module).main(words) == 0, command


if __name__ == "__main__":
    main()
