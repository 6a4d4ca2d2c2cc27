"""Autoregressive sampling over scales with guidance and a cache (arXiv 2412.04431, sec. 3.5)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace

import torch
from torch import Tensor
from torch.overrides import has_torch_function

from .attention import LayerCache, Places
from .choice import Noise, choose_bits, seeded_noise
from .layers import is_watched
from .quantizer import codes_of, codes_to_tokens, resize, tokens_to_bits
from .schedules import Schedule
from .settings import Guide, Sample, Sampling, ScaleResult, ScaleStep, linear_guidance
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
    forced: Sequence[Tensor] = (),
    patchify: int = 1,
    guide: Guide | None = None,
    on_scale: Callable[[ScaleStep], None] | None = None,
) -> Sample:
    """Sample one picture's bits per prompt and seed; see `sample_scales` for the arguments."""
    if len(seeds) != len(text):
        raise ValueError(f"one seed per prompt is needed: got {len(seeds)} seeds for {len(text)} prompts")
    results = list(
        sample_scales(
            model,
            text,
            schedule,
            settings,
            noise=seeded_noise(seeds),
            negative=negative,
            extra=extra,
            forced=forced,
            patchify=patchify,
            guide=guide,
            on_scale=on_scale,
        )
    )
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
    forced: Sequence[Tensor] = (),
    patchify: int = 1,
    guide: Guide | None = None,
    on_scale: Callable[[ScaleStep], None] | None = None,
) -> Iterator[ScaleResult]:
    """Sample scale by scale.

    `noise` gives the draws; `negative` replaces the null text; `extra` adds further texts as rows after [cond; uncond];
    `forced` fixes the bits of the first scales; `guide(cond, uncond, step)` combines margins (B, n, bits) in place of
    the linear rule, at every scale; `on_scale` is called before each scale runs. Once no later scale is guided, only
    the prompts' own rows are run. Weights may not change meanwhile: some are read at the first scale only.
    """
    run = _Run(model, text, schedule, settings, negative, extra or {}, patchify, guide)
    for index in range(run.scales):
        step = run.begin(index)
        if on_scale is not None:
            on_scale(step)
        fixed = forced[index] if index < len(forced) else None
        yield run.scale(step, noise, fixed)


class NotFiniteError(FloatingPointError):
    """Margins of a scale that are not finite, which no draw would show; `rows` are the pictures that they are of."""

    def __init__(self, scale: int, rows: Sequence[int]) -> None:
        super().__init__(f"scale {scale}: the margins of pictures {', '.join(map(str, rows))} are not finite")
        self.scale, self.rows = scale, tuple(rows)


class _Run:
    """The state of one sampling run."""

    def __init__(
        self,
        model: Infinity,
        text: Text,
        schedule: Schedule,
        settings: Sampling,
        negative: Text | None,
        extra: Mapping[str, Text],
        patchify: int,
        guide: Guide | None,
    ) -> None:
        self.model, self.schedule, self.settings, self.guide = model, schedule, settings, guide
        self.patchify, self.batch = patchify, len(text)
        self.scales = len(schedule) if settings.stop is None else len(schedule.prefix(settings.stop))
        self.grids = schedule.finer(patchify)
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
        self.tokens = model.first(self.condition)
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
        # drawn even where forced, so that later scales see the same draws
        chosen = choose_bits(tempered, noise, step.index, top_k=settings.top_k, top_p=settings.top_p)
        bits = tokens_to_bits(chosen, step.grid, self.patchify) if forced is None else forced
        return self._advance(step, logits, bits)

    def _blocks(self, step: ScaleStep) -> Tensor:
        index, model = step.index, self.model
        start, end = self.schedule.starts[index], self.schedule.ends[index]
        x = self.tokens + model.lvl_embed.weight[index]
        places = Places(model.turns(self.schedule, x.device)[start:end])
        watched = any(map(is_watched, self.modules)) or has_torch_function((x,))
        with nullcontext() if watched else torch.inference_mode():  # which costs less time
            for number, (block, cache) in enumerate(zip(model.blocks, self.cache, strict=True)):
                x = block(x, self.condition, places, cache)
                if number in self.blocks and step.guidance != 1 and len(self.roles) > 1:
                    guided = linear_guidance(x[self.roles["cond"]], x[self.roles["uncond"]], step)
                    x = torch.cat([guided, guided, x[2 * self.batch :]])
        return x

    def _combines(self, step: ScaleStep) -> bool:
        """Whether guidance acts on the margins of this scale."""
        if self.guide is not None:
            return True
        return len(self.roles) > 1 and step.guidance != 1 and 0 in self.settings.insertion

    def _combine(self, values: Tensor, step: ScaleStep) -> Tensor:
        parts = {name: values[rows] for name, rows in step.roles.items()}
        cond, uncond = parts.pop("cond"), parts.pop("uncond")
        return (self.guide or linear_guidance)(cond, uncond, replace(step, extra=parts))

    def _advance(self, step: ScaleStep, logits: Tensor, bits: Tensor) -> ScaleResult:
        filled = resize(codes_of(bits.to(logits.device)), self.grids[-1])
        self.summed = filled if self.summed is None else self.summed + filled
        inputs = None
        if step.index + 1 < self.scales:
            inputs = codes_to_tokens(resize(self.summed, self.grids[step.index + 1]), self.patchify)
            self.tokens = self.model.embed(inputs).repeat(len(self.roles), 1, 1)
        return ScaleResult(step, logits, bits, self.summed, inputs)

    def _guided_from(self, index: int) -> bool:
        """Whether any scale from `index` on needs more than the prompts' own rows."""
        if self.guide is not None:
            return True
        return any(self.settings.guidance_at(scale) != 1 for scale in range(index, self.scales))

    def _keep_prompts(self) -> None:
        rows = self.roles["cond"]
        self.roles = {"cond": rows}
        self.condition, self.tokens = self.condition.rows(rows), self.tokens[rows]
        for cache in self.cache:
            cache.keep(rows)


def _keep_freed_memory() -> None:
    """Let the process keep freed memory: faulting it in again at every layer costs a picture 0.1 s.

    glibc gives back what exceeds twice the largest block that was ever mapped and freed; it heeds blocks below 32 MiB.
    """
    torch.empty(2**25 - 2**16, dtype=torch.uint8)
