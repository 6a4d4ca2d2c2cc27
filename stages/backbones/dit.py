"""The class-conditional diffusion transformer (arXiv 2212.09748): a prompt is understood by the class it names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from diffusers import DDIMScheduler, DiTPipeline, DiTTransformer2DModel
from torch import Tensor

from stages.backbones.core.latent import Latent
from stages.backbones.core.settings import Settings
from stages.control.sites import Site, Tap, site_table
from stages.params import suggestion

BLOCK = {
    "norm": Tap("norm1.linear"),
    "attn.heads": Tap("attn1.to_out.0", "input"),
    "attn": Tap("attn1"),
    "norm_ff": Tap("norm3"),
    "ff.hidden": Tap("ff.net.0"),
    "ff": Tap("ff"),
    "block": Tap(""),
}


def sites(net: DiTTransformer2DModel) -> dict[Site, Tap]:
    """Self-attention and feed-forward; the class enters through the norms' modulation."""
    return site_table(net, [f"transformer_blocks.{i}" for i in range(len(net.transformer_blocks))], BLOCK)


class DiT(Latent):
    """Predicts eps, and often a variance that sampling leaves out; the conditional rows come first in its batch."""

    ROLES = ("cond", "uncond")
    ENDS = ("proj_out_1.", "proj_out_2.")
    PIPELINE, MODEL, SCHEDULER = DiTPipeline, DiTTransformer2DModel, DDIMScheduler

    def __init__(self, name: str, settings: Settings, pipeline: DiTPipeline, device: str = "cpu") -> None:
        super().__init__(name, settings, pipeline, device)
        self.unconditional_class = self.net.config.num_embeds_ada_norm
        self.classes = {normal(label): index for label, index in pipeline.labels.items()}

    @classmethod
    def assemble(cls, settings: Settings, parts: Mapping[str, Any]) -> DiTPipeline:
        """The pipeline with its classes: settings.build's `labels` (id: names), or its world's."""
        from stages.worlds.by_name import classes

        labels = settings.build.get("labels") or classes(settings.world or "shapes")
        pipeline = DiTPipeline(**parts, id2label=labels)
        pipeline.register_to_config(id2label=labels)
        return pipeline

    def _find_sites(self) -> dict[Site, Tap]:
        """The address table of the blocks."""
        return sites(self.net)

    def _check_size(self) -> None:
        """ValueError for a size that is no square of whole tokens."""
        super()._check_size()
        if self.settings.size and len(set(self.settings.size)) > 1:
            sides = " and ".join(f"{side} x {side}" for side in sorted(self.settings.size))
            height, width = self.settings.size
            raise ValueError(f"{self.name}: size: a DiT draws squares, got {height} x {width}; the nearest are {sides}")

    def class_of(self, prompt: str) -> int:
        """The class whose name is in the prompt, the longest if several; the unconditional one for an empty prompt.

        ValueError for a prompt that names no class.
        """
        text = normal(prompt)
        if not text.strip():
            return self.unconditional_class
        labels = [label for label in self.classes if label in text]
        if not labels:
            near = suggestion(text.strip(), [label.strip() for label in self.classes])
            raise ValueError(f"{self.name} knows classes, and {prompt!r} names none{near[:400]}")
        return self.classes[max(labels, key=len)]

    def _embed_prompts(self, prompts: list[str]) -> dict[str, Tensor]:
        return {"classes": torch.tensor([self.class_of(prompt) for prompt in prompts], device=self.device)}

    def denoise(self, latent: Tensor, time: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
        """One call of the transformer: latents (B, C, h, w) at times (B,) to eps, of the same shape.

        A learned variance is dropped, since guidance and losses are linear in eps.
        """
        return self.net(latent, time, tensors["classes"], return_dict=False)[0][:, : latent.shape[1]]


def normal(text: str) -> str:
    """Lower-case words between single blanks, one at each end."""
    words = " ".join(re.findall(r"[^\W_]+", text.lower()))
    return f" {words} "
