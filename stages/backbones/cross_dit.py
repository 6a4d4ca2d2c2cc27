"""Diffusion transformers with cross-attention to one long text encoder: PixArt-Sigma and Sana."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers import (
    DPMSolverMultistepScheduler,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    SanaPipeline,
    SanaTransformer2DModel,
)
from torch import Tensor

from stages.backbones.core.latent import Latent
from stages.backbones.core.pipeline_texts import PipelineTexts
from stages.backbones.text.encoders import gemma, t5
from stages.control.sites import Site, Tap, site_table
from stages.control.words import Prompt

ATTENTION = {
    "norm": Tap("norm1"),
    "attn.heads": Tap("attn1.to_out.0", "input"),
    "attn": Tap("attn1"),
    "cross_attn.heads": Tap("attn2.to_out.0", "input"),
    "cross_attn": Tap("attn2"),
    "norm_ff": Tap("norm2"),
}
DENSE = {"ff.hidden": Tap("ff.net.0"), "ff": Tap("ff"), "block": Tap("")}
CONVOLVED = {
    "ff.hidden": Tap("ff.conv_point", "input", spatial=True),
    "ff": Tap("ff", spatial=True),
    "block": Tap(""),
}
INSTRUCTION = inspect.signature(SanaPipeline.__call__).parameters["complex_human_instruction"].default


def _blocks(net: PixArtTransformer2DModel | SanaTransformer2DModel) -> list[str]:
    return [f"transformer_blocks.{i}" for i in range(len(net.transformer_blocks))]


class LowerCaseTexts(PipelineTexts):
    """The pipeline writes prompts in lower case."""

    def cleaned(self, prompt: str) -> str:
        """In lower case, without white space at the ends."""
        return prompt.lower().strip()


class PixArt(Latent):
    """PixArt-Sigma: a masked T5, eps, and a variance that its pipeline leaves out as well."""

    PIPELINE, MODEL = PixArtSigmaPipeline, PixArtTransformer2DModel
    SCHEDULER, TEXTS = DPMSolverMultistepScheduler, {"text_encoder": t5}
    TEXT_SIDE, TEXT_LENGTH = LowerCaseTexts, 300
    ENDS = ("adaln_single.", "proj_out.")

    def _find_sites(self) -> dict[Site, Tap]:
        """The address table; cross-attention is not normalised."""
        return site_table(self.net, _blocks(self.net), ATTENTION | DENSE)

    def _embed_prompts(self, prompts: list[str]) -> dict[str, Tensor]:
        embeds, mask, _, _ = self.pipeline.encode_prompt(
            prompts, False, device=self.device, max_sequence_length=self.texts.length
        )
        return {"embeds": embeds, "mask": mask}

    def denoise(self, latent: Tensor, time: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
        """One call of the transformer: latents (B, C, h, w) at times (B,) to eps, without the learned variance."""
        prediction = self.net(
            latent,
            encoder_hidden_states=tensors["embeds"],
            encoder_attention_mask=tensors["mask"],
            timestep=time,
            added_cond_kwargs={"resolution": None, "aspect_ratio": None},
            return_dict=False,
        )[0]
        return prediction[:, : latent.shape[1]]


class InstructedTexts(PipelineTexts):
    """Gemma reads a prompt after an instruction, most of whose tokens are left out of `embeds`."""

    @property
    def aligned(self) -> bool:
        """The tokens of a bare prompt do not stand row by row."""
        return False

    def tokenize(self, prompts: Sequence[str]) -> list[list[int]]:
        """Token ids of the rows that `embeds` has: the first, and those after the instruction.

        Gemma ends no prompt; one token of padding, which nothing reads, stands for the end that others have.
        """
        return [self._rows(prompt) for prompt in prompts]

    def cleaned(self, prompt: str) -> str:
        """After the instruction, in lower case."""
        return instructed(Prompt(prompt)).text

    def _excess(self, encoder: str, prompt: str) -> int:
        return max(0, super()._excess(encoder, prompt) - self._skipped(prompt))

    def _rows(self, prompt: str) -> list[int]:
        tokenizer, skipped = self._tokenizer, self._skipped(prompt)
        ids = tokenizer(self.cleaned(prompt), truncation=True, max_length=skipped + self.limit(self.long)).input_ids
        rows = [ids[0], *ids[skipped + 1 :]]
        return rows if rows[-1] == tokenizer.eos_token_id else [*rows, tokenizer.pad_token_id][: self.length]

    def _skipped(self, prompt: str) -> int:
        """Tokens of the instruction that are left out, of which the empty prompt has none."""
        return len(self._tokenizer.encode("\n".join(INSTRUCTION))) - 2 if prompt else 0

    @property
    def _tokenizer(self) -> Any:
        return self.tokenizers["text_encoder"]


class Sana(Latent):
    """Sana: Gemma reads the prompt after an instruction, linear self-attention, a convolved feed-forward, a flow."""

    PIPELINE, MODEL = SanaPipeline, SanaTransformer2DModel
    TEXT_SIDE, TEXT_LENGTH = InstructedTexts, 300
    SCHEDULER, TEXTS = DPMSolverMultistepScheduler, {"text_encoder": gemma}
    ENDS = ("time_embed.", "proj_out.")
    LATENTS = torch.float32  # as its pipeline keeps them, whatever the network's precision

    def _find_sites(self) -> dict[Site, Tap]:
        """The address table; the feed-forward's tensors are (B, C, h, w), seen as tokens."""
        return site_table(self.net, _blocks(self.net), ATTENTION | CONVOLVED)

    def _embed_prompts(self, prompts: list[str]) -> dict[str, Tensor]:
        moment, rows = self.attached.moment(None), []
        for prompt in moment.prompts or map(Prompt, prompts):
            with self.attached.at(moment.step, moment.roles, prompts=(instructed(prompt),)):
                rows.append(self._embed_prompt(prompt.text, INSTRUCTION if prompt.text else None))
        return {name: torch.cat([row[name] for row in rows]) for name in rows[0]}

    def _embed_prompt(self, prompt: str, instruction: list[str] | None) -> dict[str, Tensor]:
        embeds, mask, _, _ = self.pipeline.encode_prompt(
            [prompt],
            False,
            device=self.device,
            max_sequence_length=self.texts.length,
            complex_human_instruction=instruction,
        )
        return {"embeds": embeds, "mask": mask}

    def denoise(self, latent: Tensor, time: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
        """One call of the transformer on latents (B, C, h, w), at its own scale of time.

        The velocity, of the same shape, is in float32, as guidance is.
        """
        dtype = self.net.dtype
        return self.net(
            latent.to(dtype),
            encoder_hidden_states=tensors["embeds"].to(dtype),
            encoder_attention_mask=tensors["mask"],
            timestep=time * self.net.config.timestep_scale,
            return_dict=False,
        )[0].float()


def instructed(prompt: Prompt) -> Prompt:
    """A prompt as Gemma reads it: in lower case and after the instruction; the empty one alone."""
    if not prompt.text:
        return prompt
    before, text = "\n".join(INSTRUCTION), prompt.text
    moved = len(before) - (len(text) - len(text.lstrip()))
    places = {word: tuple((a + moved, b + moved) for a, b in spans) for word, spans in prompt.places.items()}
    return Prompt(before + text.lower().strip(), places)
