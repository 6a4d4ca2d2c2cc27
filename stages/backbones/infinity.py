"""Infinity: bits of an image predicted scale by scale; the sampler's steps are the scales."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from Infinity import (
    Infinity,
    InfinityConfig,
    Sampling,
    ScaleStep,
    Schedule,
    Text,
    Tokenizer,
    bits_to_tokens,
    bitwise_loss,
    draw_flips,
    margins,
    sample,
    self_correct,
    teacher_inputs,
)
from Infinity.quantizer import tokens_to_bits
from Infinity.sampling import NotFiniteError
from Infinity.schedules import TEMPLATES
from stages.backbones.core.base import Backbone
from stages.backbones.core.finite import check_finite, reason
from stages.backbones.core.memory import enable_checkpointing
from stages.backbones.core.settings import Settings
from stages.backbones.core.sizes import check_picture, check_ratio
from stages.backbones.loading import infinity as files
from stages.backbones.text.encoders import t5
from stages.backbones.text.texts import Texts
from stages.control.addresses import TEXT
from stages.control.sites import Site, Tap, site_table
from stages.control.state import Condition, State
from stages.params.kept import Kept
from stages.seeds import Purpose, seed_of

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
CERTAIN = 30.0  # the margin of a bit that is known: its probability is 1 in float32


class InfinityBackbone(Backbone):
    """Infinity with its T5 encoder and its tokenizer; predictions are bit margins (B, L, bits) of all scales at once.

    A state's latent (B, L, bits) is the transformer's input: the coarser scales' summed codes at every token, zeros at
    the first, where the pooled text stands; `final` holds the picture's bits. The empty prompt means the learned null
    text: whole in `encode`, and at each prompt's own length as the sampler's `uncond`.
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
        rows, columns = self.schedule.grids[-1]
        check_ratio(name, settings.size, [round(rows / columns, 3)])
        if settings.gradient_checkpointing:
            enable_checkpointing(self.net, self.attached)
        for module in self.modules().values():
            module.to(device)
        self.freeze()

    # made, loaded, saved

    @classmethod
    def load(cls, name: str, settings: Settings, device: str = "cpu") -> InfinityBackbone:
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
    ) -> InfinityBackbone:
        """A transformer and a text encoder with random weights, as settings.build describes them."""
        build = settings.build
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of(Purpose.WEIGHTS, seed))
            encoder = t5(build["text_encoder"], tokenizer)
        sizes = {"bits": vae.config.token_bits, "text_channels": encoder.config.d_model}
        config = InfinityConfig(**build["transformer"], **sizes, text_length=tokenizer.model_max_length)
        grids = Schedule.of(*build["scales"])
        return cls(
            name,
            settings,
            files.Parts(Infinity(config, seed=seed_of(Purpose.WEIGHTS, seed, 1)), vae, encoder, tokenizer, grids),
            device,
        )

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

    def find_sites(self) -> dict[Site, Tap]:
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

    def text(self, condition: Condition) -> Text:
        """The condition as the transformer reads it; null rows add the learned null text to their embeds."""
        embeds, mask, null = (condition.tensors[name] for name in ("embeds", "mask", "null"))
        values = embeds + null[:, None, None] * self.net.cfg_uncond[: embeds.shape[1]]
        return Text.of([row[real] for row, real in zip(values, mask, strict=True)])

    # predictions

    def predict(self, state: State, condition: Condition, *, role: str = "cond") -> Tensor:
        """The bit margins (B, L, bits) of every scale, each given the coarser ones in the state."""
        return self._margins(state, condition, {role: slice(0, len(state))}, condition)

    def guided(self, state: State, conditions: Mapping[str, Condition], guidance: float) -> Tensor:
        """All roles in one call of the transformer, through the guidance edits, as uncond + g (cond - uncond).

        Margins (B, L, bits).
        """
        size, order = len(state), list(conditions)
        roles = {role: slice(i * size, (i + 1) * size) for i, role in enumerate(order)}
        wide = replace(state, latent=torch.cat([state.latent] * len(order)))
        predictions = self._margins(wide, Condition.join(list(conditions.values())), roles, conditions.get("cond"))
        with self.attached.at(state.step, roles, lengths=self.schedule.lengths):
            return self.attached.combine({role: predictions[rows] for role, rows in roles.items()}, guidance)

    def distance(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy of margins (B, L, bits) to the target's probabilities, each scale by the root of its area."""
        return bitwise_loss(prediction, torch.sigmoid(target.float()), self.schedule, reweight=True)

    def roles(self, condition: Condition, guidance: float) -> dict[str, Condition]:
        """The conditions of one guided call, conditional rows first; `uncond` is as long as each row's own prompt.

        At guidance 1 or less, the condition alone, unless an edit asks for more.
        """
        extras = self.attached.extra_conditions(condition, self.encode)
        if guidance <= 1 and not extras:
            return {"cond": condition}
        size = len(condition)
        uncond = self.encode([""]).repeat(size).with_tensors(mask=condition.tensors["mask"])
        return {"cond": condition, "uncond": uncond} | extras

    def _margins(self, state: State, condition: Condition, roles: Mapping[str, slice], run: Condition | None) -> Tensor:
        with self.attached.at(state.step, roles, lengths=self.schedule.lengths, condition=run), self._precision():
            return margins(self.net(state.latent[:, 1:], self.text(condition), self.schedule))

    def _precision(self) -> AbstractContextManager[None]:
        dtype = self.net.blocks[0].ffn.fc1.weight.dtype
        return torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32)

    # sampling

    @torch.no_grad()
    def _sample(self, condition: Condition, *, seeds: Sequence[int], steps: int, guidance: float) -> Tensor:
        with self._precision():
            pictures = self.decode(self._bits(condition, seeds, steps, guidance).summed)
        return check_finite(self, "picture", pictures, condition.prompts, seeds)

    @torch.no_grad()
    def completed(self, condition: Condition, tokens: Tensor, scales: int, *, seeds: Sequence[int]) -> Tensor:
        """Pictures (B, 3, H, W) whose first scales are those of `tokens` (B, L, bits), the rest drawn.

        At the settings' guidance; edits act on every scale, but nothing they do changes the given ones.
        """
        given, guidance = self._grids(tokens.to(self.device))[:scales], self.settings.guidance
        with self._precision():
            pictures = self.decode(self._bits(condition, seeds, len(self.schedule), guidance, given).summed)
        return check_finite(self, "picture", pictures, condition.prompts, seeds)

    def _bits(
        self,
        condition: Condition,
        seeds: Sequence[int],
        steps: int,
        guidance: float,
        forced: Sequence[Tensor] = (),
    ) -> Any:
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
    ) -> Any:
        conditions = self.roles(condition, guidance)
        texts = {role: self.text(rows) for role, rows in conditions.items()}
        factor = max(guidance, 1.0)

        def enter(step: ScaleStep) -> None:
            self.attached.move_to(step.index, step.roles)

        def guide(cond: Tensor, uncond: Tensor, step: ScaleStep) -> Tensor:
            parts = {"cond": cond, "uncond": uncond} | dict(step.extra)
            return self.attached.combine({role: parts[role] for role in conditions}, factor)

        settings = Sampling(
            guidance=factor,
            temperature=self.settings.temperature,
            top_p=self.settings.top_p,
            stop=min(steps, len(self.schedule)),
            patchify=self.vae.config.patchify,
            guide=guide if len(conditions) > 1 or self.attached.guidance_edits else None,
            on_scale=enter,
            forced=tuple(forced),
        )
        cond, uncond = texts.pop("cond"), texts.pop("uncond", None)
        with self.attached.at(0, {}, condition=condition):
            return sample(self.net, cond, self.schedule, settings, seeds=seeds, negative=uncond, extra=texts)

    # pictures and their bits

    def picture_size(self) -> tuple[int, int]:
        """Height and width in pixels, which follow from the schedule; of settings.size the ratio alone counts."""
        return tuple(side * self.vae.config.stride for side in self.schedule.finer(self.vae.config.patchify)[-1])

    def decode(self, codes: Tensor) -> Tensor:
        """Summed codes (B, d, h, w) to pictures (B, 3, H, W) in [0, 1]."""
        return (self.vae.decode(codes) + 1) / 2

    @torch.no_grad()
    def embed(self, images: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) in [0, 1] to the tokenizer's features (B, d, h, w), not yet binary."""
        return self.vae.features(2 * images.to(self.device) - 1)

    def examples(self, images: Tensor, generator: torch.Generator, *, together: bool = False) -> tuple[State, Tensor]:
        """Pictures (B, 3, H, W) in [0, 1] as states of all scales, and the margins (B, L, bits) of their own bits.

        Every row has every scale, so `together` changes nothing.
        ValueError for pictures of another size than this backbone draws.
        """
        features, patchify = self.embed(images), self.vae.config.patchify
        have, want = tuple(features.shape[-2:]), tuple(self.schedule.finer(patchify)[-1])
        if have != want:
            raise ValueError(
                f"pictures of {tuple(images.shape[-2:])} pixels give features of {have}, {self.name} has {want}"
            )
        corrected = self_correct(features, self.schedule, patchify=patchify)
        return self._state(corrected.inputs, corrected.labels), self.certain(corrected.labels)

    @staticmethod
    def certain(tokens: Tensor) -> Tensor:
        """The margins (B, L, bits) that leave no doubt about the bits of `tokens` (B, L, bits)."""
        return CERTAIN * (2 * tokens.float() - 1)

    def training_loss(
        self, features: Tensor, captions: Sequence[str], generator: torch.Generator, draws: int = 1
    ) -> Tensor:
        """This family's training loss (scalar) on features (B, d, h, w) from `embed` and their captions.

        Bitwise self-correction, some captions dropped; `draws` is of families with training times.
        """
        shape, patchify = (len(features), features.shape[1]), self.vae.config.patchify
        flips = draw_flips(self.schedule, shape, generator, patchify=patchify)
        corrected = self_correct(features, self.schedule, flips, patchify=patchify)
        text = self.text(Condition(tuple(captions), self._encode(captions)))
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
        for rows in self.batches(len(seeds)):
            condition = self.encode([prompt]).repeat(len(seeds[rows]))
            with self._precision():
                bits = self._bits(condition, seeds[rows], len(self.schedule), self.settings.guidance).bits
            tokens = torch.cat([bits_to_tokens(one, self.vae.config.patchify) for one in bits], dim=1)
            pool.append(tokens.to(torch.uint8).cpu())
        return torch.cat(pool)

    def draw(self, condition: Condition, generator: torch.Generator) -> State:
        """One gathered picture per row, with all its scales; KeyError when a prompt has none."""
        return self.forced(self.trajectories.draw(condition.prompts, generator, slice(None)).to(self.device))

    def forced(self, tokens: Tensor) -> State:
        """The state in which every scale is fed the coarser bits of `tokens` (B, L, bits)."""
        return self._state(teacher_inputs(self._grids(tokens), self.schedule, self.vae.config.patchify), tokens)

    def _grids(self, tokens: Tensor) -> list[Tensor]:
        """Tokens (B, L, bits) scale by scale, as the tokenizer of pictures has them."""
        parts = zip(tokens.split(self.schedule.lengths, dim=1), self.schedule.grids, strict=True)
        return [tokens_to_bits(part, grid, self.vae.config.patchify) for part, grid in parts]

    @staticmethod
    def _state(inputs: Tensor, tokens: Tensor) -> State:
        latent = torch.cat([torch.zeros_like(inputs[:, :1]), inputs], dim=1)
        return State(latent, torch.zeros(len(latent), device=latent.device), step=0, final=tokens)
