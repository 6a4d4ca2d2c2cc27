"""Infinity: bits of an image predicted scale by scale; the sampler's steps are the scales."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from Infinity import Infinity, Sampling, ScaleStep, Text, Tokenizer, bitwise_loss, margins, sample
from Infinity.sampling import NotFiniteError
from Infinity.schedules import TEMPLATES
from Infinity.settings import Sample
from stages.backbones.core.base import freeze
from stages.backbones.core.bits import BitPictures
from stages.backbones.core.family import Family
from stages.backbones.core.finite import check_finite, reason
from stages.backbones.core.guidance import Roles, rows_of
from stages.backbones.core.memory import enable_checkpointing
from stages.backbones.core.settings import Settings
from stages.backbones.core.sizes import check_picture, check_ratio
from stages.backbones.loading import infinity as files
from stages.backbones.text.texts import Texts
from stages.control.addresses import TEXT
from stages.control.sites import Site, Tap, site_table
from stages.control.state import Condition, State
from stages.params.kept import Kept

BLOCK = {
    "attn.heads": Tap("sa.proj", "input"),
    "attn": Tap("sa"),
    "norm_cross": Tap("ca_norm"),
    "cross_attn.heads": Tap("ca.proj", "input"),
    "cross_attn": Tap("ca"),
    "ff.hidden": Tap("ffn.fc2", "input"),
    "ff": Tap("ffn"),
    "block": Tap(""),
}


class InfinityBackbone(Family):
    """Infinity with its T5 encoder and its tokenizer; predictions are bit margins (B, L, bits) of all scales at once.

    A state's latent (B, L, bits) is the transformer's input, see `BitPictures`; `final` holds the picture's bits. The
    empty prompt means the learned null text: whole in `encode`, and at each prompt's own length as `uncond`.
    """

    PROJECTIONS = {
        "query": ("mat_q", "mat_qkv", "q_bias"),
        "key": ("mat_kv", "mat_qkv"),
        "value": ("mat_kv", "mat_qkv", "v_bias"),
        "out": ("proj",),
    }
    ENDS = ("lvl_embed.", "head_nm.", "head.")
    WHOLE = True
    # a cross-attention outside the blocks, whose one query reads the whole prompt for first token and modulation
    BESIDE = {"cross_attn": ("text_proj_for_sos.ca",)}

    net: Infinity

    def __init__(self, name: str, settings: Settings, parts: files.Parts, device: str = "cpu") -> None:
        files.check_settings(name, settings)
        check_picture(name, settings)
        texts = Texts(
            name,
            {TEXT: parts.tokenizer},
            length=settings.text_length or len(parts.net.cfg_uncond),
            starts={TEXT: 0},
            encoders={TEXT: parts.text_encoder},
        )
        super().__init__(name, settings, parts.net, texts)
        self.vae, self.schedule = parts.vae, parts.schedule
        self.pictures = BitPictures(parts.vae, parts.schedule)
        rows, columns = self.schedule.grids[-1]
        check_ratio(name, settings.size, [round(rows / columns, 3)])
        if settings.gradient_checkpointing:
            enable_checkpointing(self.net, self.attached)
        for module in self.modules().values():
            module.to(device)
        freeze(self.modules().values())

    # made, loaded, saved

    @classmethod
    def load(cls, name: str, settings: Settings, device: str = "cpu") -> Self:
        """The released files that settings.release names, or else the folder at settings.path that `save` wrote.

        FileNotFoundError or ValueError, in one line, for files that are missing or not Infinity's, and for a size
        whose height over width has no template.
        """
        if settings.release:
            check_ratio(name, settings.size, TEMPLATES)
        return cls(name, settings, files.load(settings, device), device)

    @classmethod
    def create(
        cls, name: str, settings: Settings, tokenizer: Any, vae: Tokenizer, seed: int, device: str = "cpu"
    ) -> Self:
        """A transformer and a text encoder with random weights, as settings.build describes them."""
        return cls(name, settings, files.make(settings, tokenizer, vae, seed), device)

    @classmethod
    def load_autoencoder(cls, folder: Path | str) -> Tokenizer:
        """The world's tokenizer, in Infinity's own format."""
        return Tokenizer.from_pretrained(folder)

    def save(self, folder: Path) -> None:
        """Writes the networks in Infinity's own format, the text encoder and its tokenizer in that of transformers."""
        encoder, tokenizer = self.texts.encoders()[TEXT], self.texts.tokenizers[TEXT]
        files.save(files.Parts(self.net, self.vae, encoder, tokenizer, self.schedule), folder)

    def modules(self) -> Mapping[str, nn.Module]:
        """The transformer, the text encoder and the tokenizer of pictures."""
        return {"net": self.net, **self.texts.encoders(), "vae": self.vae}

    def _check_size(self) -> None:
        """ValueError for another size than the schedule's: it is chosen when the network is loaded."""
        if self.settings.size != self.picture_size():
            height, width = self.picture_size()
            asked = self.settings.size and " x ".join(map(str, self.settings.size))
            raise ValueError(
                f"{self.name}: draws {height} x {width} alone, got {asked}; for published prompts: ignore: [size]"
            )

    def _find_sites(self) -> dict[Site, Tap]:
        """The address table of the blocks."""
        return site_table(self.net, (f"blocks.{i}" for i in range(len(self.net.blocks))), BLOCK)

    # prompts

    def _encode(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        """Embeds (B, T, C), which tokens are real (B, T), and which prompts are null (B,), whose embeds are zeros."""
        padding = {"padding": "max_length", "max_length": self.texts.length, "truncation": True}
        batch = self.texts.tokenizers[TEXT](list(prompts), **padding, return_tensors="pt").to(self.device)
        encoder = self.texts.encoders()[TEXT]
        hidden = encoder(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
        null = torch.tensor([not prompt for prompt in prompts], device=self.device)
        real = batch["attention_mask"].bool() & ~null[:, None]
        embeds = hidden.last_hidden_state.float() * real[:, :, None]
        return {"embeds": embeds, "mask": real | null[:, None], "null": null}

    # predictions

    def predict(self, state: State, condition: Condition, *, role: str = "cond") -> Tensor:
        """The bit margins (B, L, bits) of every scale, each given the coarser ones in the state."""
        return self._margins(state, condition, {role: slice(0, len(state))}, condition)

    def _guided(self, state: State, roles: Roles, factor: float) -> Tensor:
        """All roles in one call of the transformer."""
        rows = rows_of(roles, len(state))
        wide = replace(state, latent=torch.cat([state.latent] * len(roles)))
        run = roles.get("cond")
        predictions = self._margins(wide, Condition.join(list(roles.values())), rows, run)
        with self.attached.at(state.step, rows, lengths=self.schedule.lengths, condition=run):
            return self.attached.combine({role: predictions[part] for role, part in rows.items()}, factor)

    def _unconditional(self, condition: Condition) -> Condition:
        """The null text, as long as each row's own prompt."""
        return self.encode([""]).repeat(len(condition)).with_tensors(mask=condition.tensors["mask"])

    def distance(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy of margins (B, L, bits) to the target's probabilities, each scale by the root of its area."""
        return bitwise_loss(prediction, torch.sigmoid(target.float()), self.schedule, reweight=True)

    def _margins(self, state: State, condition: Condition, roles: Mapping[str, slice], run: Condition | None) -> Tensor:
        with self.attached.at(state.step, roles, lengths=self.schedule.lengths, condition=run), self._precision():
            return margins(self.net(state.latent[:, 1:], text_of(condition, self.net), self.schedule))

    def _precision(self) -> AbstractContextManager[None]:
        block: Any = self.net.blocks[0]
        dtype = block.ffn.fc1.weight.dtype
        return torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32)

    # sampling

    @torch.no_grad()
    def _sample(self, condition: Condition, *, seeds: Sequence[int], steps: int, guidance: float) -> Tensor:
        with self._precision():
            pictures = self.pictures.decode(self._bits(condition, seeds, steps, guidance).summed)
        return check_finite(self, "picture", pictures, condition.prompts, seeds)

    @torch.no_grad()
    def completed(self, condition: Condition, tokens: Tensor, scales: int, *, seeds: Sequence[int]) -> Tensor:
        """Pictures (B, 3, H, W) whose first scales are those of `tokens` (B, L, bits), the rest drawn.

        At the settings' guidance; edits act on every scale, but nothing they do changes the given ones.
        """
        given, guidance = self.pictures.grids(tokens.to(self.device))[:scales], self.settings.guidance
        with self._precision():
            pictures = self.pictures.decode(self._bits(condition, seeds, len(self.schedule), guidance, given).summed)
        return check_finite(self, "picture", pictures, condition.prompts, seeds)

    def _bits(
        self, condition: Condition, seeds: Sequence[int], steps: int, guidance: float, forced: Sequence[Tensor] = ()
    ) -> Sample:
        """Infinity's own sampler over the first `steps` scales, edits told the scale and the roles of the rows.

        The first scales may be `forced`, each (B, h, w, bits) of the tokenizer. FloatingPointError with prompt, seed
        and reason for margins that are not finite: their bits would look sound.
        """
        try:
            return self._drawn(condition, seeds, steps, guidance, forced)
        except NotFiniteError as error:
            row = error.rows[0]
            raise FloatingPointError(
                f"{self.name}: the bits of prompt {condition.prompts[row]!r}, seed {seeds[row]}, come from margins "
                f"that are not finite (scale {error.scale}); likely reasons: {reason(self)}"
            ) from None

    def _drawn(
        self, condition: Condition, seeds: Sequence[int], steps: int, guidance: float, forced: Sequence[Tensor]
    ) -> Sample:
        guider = self.guider(condition, guidance)
        roles, factor = guider.roles, guider.guidance.factor
        texts = {role: text_of(rows, self.net) for role, rows in roles.items()}

        def enter(step: ScaleStep) -> None:
            self.attached.move_to(step.index, step.roles)

        def guide(cond: Tensor, uncond: Tensor, step: ScaleStep) -> Tensor:
            parts = {"cond": cond, "uncond": uncond} | dict(step.extra)
            return self.attached.combine({role: parts[role] for role in roles}, factor)

        settings = Sampling(
            guidance=factor,
            temperature=self.settings.temperature,
            top_p=self.settings.top_p,
            stop=min(steps, len(self.schedule)),
            patchify=self.pictures.patchify,
            guide=guide if len(roles) > 1 or self.attached.guidance_edits else None,
            on_scale=enter,
            forced=tuple(forced),
        )
        cond, uncond = texts.pop("cond"), texts.pop("uncond", None)
        with self.attached.at(0, {}, condition=condition):
            return sample(self.net, cond, self.schedule, settings, seeds=seeds, negative=uncond, extra=texts)

    # pictures and their bits

    def picture_size(self) -> tuple[int, int]:
        """Height and width in pixels, which follow from the schedule; of settings.size the ratio alone counts."""
        return self.pictures.size()

    def embed(self, images: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) in [0, 1] to the tokenizer's features (B, d, h, w), not yet binary."""
        return self.pictures.features(images.to(self.device))

    def examples(self, images: Tensor, generator: torch.Generator, *, together: bool = False) -> tuple[State, Tensor]:
        """Pictures (B, 3, H, W) in [0, 1] as states of all scales, and the margins (B, L, bits) of their own bits.

        Every row has every scale, so `together` changes nothing.
        ValueError for pictures of another size than this backbone draws.
        """
        return self.pictures.examples(images.to(self.device), self.name)

    def training_loss(
        self, clean: Tensor, captions: Sequence[str], generator: torch.Generator, draws: int = 1
    ) -> Tensor:
        """This family's training loss (scalar) on features (B, d, h, w) from `embed` and their captions.

        Bitwise self-correction, some captions dropped; `draws` is of families with training times.
        """
        corrected = self.pictures.corrected(clean, generator)
        text = text_of(Condition(tuple(captions), self._encode(captions)), self.net)
        drop = torch.rand(len(captions), generator=generator) < self.net.config.condition_drop
        self.net.train()  # for stochastic depth, drawn from the generator, too
        try:
            logits = self.net(corrected.inputs, text, self.schedule, drop=drop, generator=generator)
        finally:
            self.net.eval()
        return bitwise_loss(margins(logits), corrected.labels, self.schedule, reweight=True)

    # pictures to train on

    def calls(self, steps: int) -> int:
        """Scales that a run of so many steps predicts."""
        return min(steps, len(self.schedule))

    def _make_pool(self, prompt: str, seeds: Sequence[int], states: Kept) -> Tensor:
        """Tokens (n, L, bits) of whole pictures, as uint8."""
        pool = []
        for rows in self.settings.batches(len(seeds)):
            condition = self.encode([prompt]).repeat(len(seeds[rows]))
            with self._precision():
                bits = self._bits(condition, seeds[rows], len(self.schedule), self.settings.guidance).bits
            pool.append(self.pictures.tokens(bits).to(torch.uint8).cpu())
        return torch.cat(pool)

    def draw(self, condition: Condition, generator: torch.Generator) -> State:
        """One gathered picture per row, with all its scales; KeyError when a prompt has none."""
        return self.forced(self.trajectories.draw(condition.prompts, generator, slice(None)).to(self.device))

    def forced(self, tokens: Tensor) -> State:
        """The state in which every scale is fed the coarser bits of `tokens` (B, L, bits)."""
        return self.pictures.forced(tokens)


def text_of(condition: Condition, net: Infinity) -> Text:
    """The condition as the transformer reads it; null rows add the learned null text to their embeds."""
    embeds, mask, null = (condition.tensors[name] for name in ("embeds", "mask", "null"))
    values = embeds + null[:, None, None] * net.cfg_uncond[: embeds.shape[1]]
    return Text.of([row[real] for row, real in zip(values, mask, strict=True)])
