"""The model card of an erasure: what it is, how to load it, how well it works, and what it does not show."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import yaml

from stages.backbones import load_settings
from stages.backbones.loading.folders import REPOSITORY
from stages.door.asked import Asked
from stages.params.layers import kind_of, method_params
from stages.params.load import load_params

PICTURES = "before_after.png"
LOADING = {
    "checkpoint": """from diffusers import DiffusionPipeline

pipeline = DiffusionPipeline.from_pretrained("checkpoint")""",
    "lora": """from diffusers import DiffusionPipeline

pipeline = DiffusionPipeline.from_pretrained("{path}")
pipeline.load_lora_weights("lora")""",
    "embedding": """from diffusers import DiffusionPipeline

pipeline = DiffusionPipeline.from_pretrained("{path}")
pipeline.load_textual_inversion("embedding/learned_embeds.safetensors")""",
}
HERE = """from stages import load_backbone, load_run

backbone = load_backbone("{backbone}")
with load_run("intervention").attach(backbone):
    pictures = backbone.sample(backbone.encode(["..."]), seeds=[0], steps={steps}, guidance={guidance})"""


@dataclass(frozen=True)
class Card:
    """What a card says."""

    asked: Asked
    form: str  # of what is exported, empty for none
    rates: Sequence[tuple[str, str, str]]  # what is measured, before and after
    pictures: bool  # whether there is a picture of before and after


def card(about: Card) -> str:
    """The card as Markdown with the head that the hub reads."""
    asked, base = about.asked, load_params("backbones", about.asked.backbone)
    path, (_, settings) = str(base["path"]), load_settings(asked.backbone)
    head = {"tags": ["concept-erasure", "palimpsest"], "library_name": "peft" if about.form == "lora" else "diffusers"}
    head |= {"base_model": path} if REPOSITORY.fullmatch(path) and not base.get("world") else {}
    fields = method_params(asked.method, asked.backbone, kind=kind_of(asked.concept()))
    here = HERE.format(backbone=asked.backbone, steps=settings.steps, guidance=settings.guidance)
    if about.form in LOADING and base["family"] != "infinity":
        elsewhere = _python(LOADING[about.form].replace("{path}", path))
    elif about.form:
        elsewhere = f"`{about.form}/` is in the format of the backbone's own family."
    else:
        elsewhere = "It acts while pictures are sampled, so it has no form outside this project."
    table = [f"| {name} | {before} | {after} |" for name, before, after in about.rates]
    parts = [
        f"---\n{yaml.safe_dump(head, sort_keys=True).strip()}\n---",
        f"# {asked.backbone} without {asked.words}",
        f"{asked.words} was erased from `{asked.backbone}` (`{path}`) by `{asked.method}`, seed {asked.seed}.",
        *([f"![before and after, same prompts and seeds]({PICTURES})"] if about.pictures else []),
        "## How well it works",
        "\n".join(["| | before | after |", "|---|---|---|", *table]) if table else "See `report.html`.",
        f"Rates over {asked.pictures} pictures each, with 95 % intervals. The prompts were not trained on."
        " `report.html` has every number and its pictures. One seed and one judge: nothing here says that the concept"
        f" cannot be brought back; `palimpsest attack {asked.study()} ring_a_bell` looks for prompts that do.",
        "## How to load it",
        elsewhere,
        "With this project, in its folder here:",
        _python(here),
        "## How it was made",
        f"Study `params/studies/{asked.study()}.yaml`, concept `params/concepts/{asked.concept()}.yaml`. Settings:",
        f"```json\n{json.dumps(fields, indent=1, sort_keys=True)}\n```",
        f"The licence of the base, `{path}`, holds for what is made of it.",
    ]
    return "\n\n".join(parts) + "\n"


def _python(code: str) -> str:
    return f"```python\n{code}\n```"
