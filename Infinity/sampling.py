"""Sampling scale by scale, with guidance and a cache of keys and values (arXiv 2412.04431, sec. 3.5)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace

import torch
from torch import Tensor
from torch.overrides import has_torch_function

from .attention import LayerCache, Places
from .choice import Noise, choose_bits, seeded_noise
from .linear import is_watched
from .quantizer import codes_of, codes_to_tokens, resize, tokens_to_bits
from .schedules import Schedule
from .settings import Sample, Sampling, ScaleResult, ScaleStep, linear_guidance
from .text import Text
from .transformer import Condition, Infinity, margins


def sample(
    model: Infinity,
    text: Text,
    schedule: Schedule,
    settings: Sampling,
    *,
    seeds: Sequence[int],
    negative: Text | None = None,
    extra: Mapping[str, Text] | None = None,
) -> Sample:
    """Bits of one picture per prompt, each drawn from its own seed.

    `negative` and `extra` are those of `sample_scales`. ValueError unless there is one seed per prompt.
    """
    if len(seeds) != len(text):
        raise ValueError(f"one seed per prompt is needed: got {len(seeds)} seeds for {len(text)} prompts")
    scales = sample_scales(model, text, schedule, settings, noise=seeded_noise(seeds), negative=negative, extra=extra)
    results = list(scales)
    return Sample(tuple(result.bits for result in results), results[-1].summed)


@torch.no_grad()
def sample_scales(
    model: Infinity,
    text: Text,
    schedule: Schedule,
    settings: Sampling,
    *,
    noise: Noise,
    negative: Text | None = None,
    extra: Mapping[str, Text] | None = None,
) -> Iterator[ScaleResult]:
    """Sample scale by scale, one result per scale.

    The batch holds the B prompts of `text`, then, if any scale is guided, B unconditional rows (`negative`, by default
    the learned null text), then B rows of each further text of `extra` (role -> text); their margins reach
    `settings.guide` as `step.extra`. Once no later scale is guided, only the prompts' own rows are run.

    `noise` draws the bits. Weights must not change between scales: some are read at the first scale only. ValueError
    if a text has another number of prompts, or if guidance, temperature or insertion do not fit schedule and model.
    """
    run = _Run(model, text, schedule, settings, negative, extra or {})
    for index in range(run.scales):
        step = run.begin(index)
        if settings.on_scale is not None:
            settings.on_scale(step)
        fixed = settings.forced[index] if index < len(settings.forced) else None
        yield run.scale(step, noise, fixed)


class NotFiniteError(FloatingPointError):
    """Margins of a scale that are not finite, which no draw would show; `rows` are the pictures that they are of."""

    def __init__(self, scale: int, rows: Sequence[int]) -> None:
        super().__init__(f"scale {scale}: the margins of pictures {', '.join(map(str, rows))} are not finite")
        self.scale, self.rows = scale, tuple(rows)


class _Run:
    """One sampling run: the caches of its blocks and the codes so far."""

    def __init__(
        self,
        model: Infinity,
        text: Text,
        schedule: Schedule,
        settings: Sampling,
        negative: Text | None,
        extra: Mapping[str, Text],
    ) -> None:
        self.model, self.schedule, self.settings, self.batch = model, schedule, settings, len(text)
        self.scales = len(schedule) if settings.stop is None else len(schedule.prefix(settings.stop))
        self.grids = schedule.finer(settings.patchify)
        self.blocks = settings.guided_blocks(model.config.depth)
        texts = {"cond": text}
        if self._guided_from(0):
            texts |= {"uncond": model.null_text(text) if negative is None else negative, **extra}
        if any(len(one) != self.batch for one in texts.values()):
            raise ValueError(f"every text needs {self.batch} prompts, got { {k: len(t) for k, t in texts.items()} }")
        self.roles = {name: slice(i * self.batch, (i + 1) * self.batch) for i, name in enumerate(texts)}
        self.condition: Condition = model.condition(Text.join(list(texts.values())))
        _keep_freed_memory()
        tokens = schedule.ends[self.scales - 1]
        self.cache: list[LayerCache] = model.new_cache(len(texts) * self.batch, tokens)
        self.modules = list(model.modules())
        self.tokens = model.first(self.condition)  # inputs of the next scale, (rows, n, C)
        self.summed: Tensor | None = None

    def begin(self, index: int) -> ScaleStep:
        """Describe a scale, and drop the rows that no remaining scale needs."""
        if len(self.roles) > 1 and not self._guided_from(index):
            self._keep_prompts()
        return ScaleStep(index, self.schedule.grids[index], self.settings.guidance_at(index), dict(self.roles))

    def scale(self, step: ScaleStep, noise: Noise, forced: Tensor | None) -> ScaleResult:
        """Run the blocks on one scale, choose its bits and prepare the next scale's input."""
        x = self._blocks(step)
        combine = self._combines(step)
        rows = slice(None) if combine else self.roles["cond"]
        logits = self.model.logits(x[rows], self.condition.pooled[rows])
        combined = self._combine(margins(logits), step) if combine else margins(logits)
        settings = self.settings
        finite = torch.isfinite(combined).flatten(1).all(1)
        if not finite.all():
            raise NotFiniteError(step.index, (~finite).nonzero().flatten().tolist())
        tempered = combined / settings.temperature_at(step.index)
        # drawn even if forced, so that later scales see the same draws
        drawn = choose_bits(tempered, noise, step.index, top_k=settings.top_k, top_p=settings.top_p)
        bits = tokens_to_bits(drawn, step.grid, settings.patchify) if forced is None else forced
        return self._advance(step, logits, bits)

    def _blocks(self, step: ScaleStep) -> Tensor:
        """The blocks' output at one scale, (rows, n, C)."""
        index, model = step.index, self.model
        start, end = self.schedule.starts[index], self.schedule.ends[index]
        x = self.tokens + model.lvl_embed.weight[index]
        places = Places(model.turns(self.schedule, x.device)[start:end])
        watched = any(map(is_watched, self.modules)) or has_torch_function((x,))
        # Inference mode costs less per call, but a hook could not save its tensors for a gradient.
        with nullcontext() if watched else torch.inference_mode():
            for number, (block, cache) in enumerate(zip(model.blocks, self.cache, strict=True)):
                x = block(x, self.condition, places, cache)
                if number in self.blocks and step.guidance != 1 and len(self.roles) > 1:
                    guided = linear_guidance(x[self.roles["cond"]], x[self.roles["uncond"]], step)
                    x = torch.cat([guided, guided, x[2 * self.batch :]])
        return x

    def _combines(self, step: ScaleStep) -> bool:
        """Whether guidance acts on the margins of this scale."""
        if self.settings.guide is not None:
            return True
        return len(self.roles) > 1 and step.guidance != 1 and 0 in self.settings.insertion

    def _combine(self, values: Tensor, step: ScaleStep) -> Tensor:
        """Margins (B, n, bits) of margins (rows, n, bits)."""
        parts = {name: values[rows] for name, rows in step.roles.items()}
        cond, uncond = parts.pop("cond"), parts.pop("uncond")
        return (self.settings.guide or linear_guidance)(cond, uncond, replace(step, extra=parts))

    def _advance(self, step: ScaleStep, logits: Tensor, bits: Tensor) -> ScaleResult:
        filled = resize(codes_of(bits.to(logits.device)), self.grids[-1])
        self.summed = filled if self.summed is None else self.summed + filled
        inputs = None
        if step.index + 1 < self.scales:
            inputs = codes_to_tokens(resize(self.summed, self.grids[step.index + 1]), self.settings.patchify)
            self.tokens = self.model.embed(inputs).repeat(len(self.roles), 1, 1)
        return ScaleResult(step, logits, bits, self.summed, inputs)

    def _guided_from(self, index: int) -> bool:
        """Whether any scale from `index` on needs more than the prompts' own rows."""
        if self.settings.guide is not None:
            return True
        return any(self.settings.guidance_at(scale) != 1 for scale in range(index, self.scales))

    def _keep_prompts(self) -> None:
        rows = self.roles["cond"]
        self.roles = {"cond": rows}
        self.condition, self.tokens = self.condition.rows(rows), self.tokens[rows]
        for cache in self.cache:
            cache.keep(rows)


def _keep_freed_memory() -> None:
    """Let the process keep freed memory, which would otherwise be faulted in again at every layer.

    glibc returns to the system what exceeds twice the largest block that was ever mapped and freed, and counts blocks
    below 32 MiB only: so one block just below that size is mapped and freed here.
    """
    torch.empty(2**25 - 2**16, dtype=torch.uint8)
