"""What every backbone shares: the addresses of its tensors and the places where edits register."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from stages import objectives
from stages.backbones.core.settings import Settings
from stages.backbones.text.encoded import EncodedPrompts
from stages.control.sites import Moment, Part, Site, Stream, Tap, encoder_sites, lookup, select
from stages.control.state import Condition, Sampler, State
from stages.control.words import Prompt, written_out


class Backbone(ABC):
    """A frozen generator. `sample`, `predict` and `encode` honour whatever is attached; see stages.control.edits."""

    TEXT: ClassVar[str] = "text_encoder"  # how the names of text encoders and of their parameters begin
    PROJECTIONS: ClassVar[Mapping[str, tuple[str, ...]]] = {  # the second of each is the text stream's
        "query": ("to_q", "add_q_proj"),
        "key": ("to_k", "add_k_proj"),
        "value": ("to_v", "add_v_proj"),
        "out": ("to_out", "to_add_out"),
    }
    READERS: ClassVar[tuple[str, ...]] = ()  # weights that read the encoded text where no cross-attention does
    ENDS: ClassVar[tuple[str, ...]] = ()  # how the names of time embedding and output layers begin
    TEXT_FIRST: ClassVar[bool] = True  # whether text stands before the image in joint attention
    NET: ClassVar[str] = "transformer"  # what a pipeline calls the network
    TOKENIZER: ClassVar[str] = "tokenizer"  # the one whose tokens the condition's embeds follow

    net: nn.Module
    sites: Mapping[Site, Tap]

    def __init__(self, name: str, settings: Settings) -> None:
        self.name, self.settings = name, settings
        self.condition_edits: list[Callable[[Condition], Condition]] = []
        self.guidance_edits: list[tuple[Callable[..., Any], dict[str, Any]]] = []
        self.sample_edits: list[Callable[[Sampler], Sampler]] = []
        self.text_swaps: list[Mapping[str, Tensor]] = []
        self.originals: dict[str, Tensor] = {}  # the network's own values of parameters that are swapped now
        self.words: list[Mapping[str, str]] = []  # aliases and what stands for them before tokenization
        self.pools: dict[str, Tensor] = {}  # prompt -> what `gather` made of it, a row per sample; on the CPU
        self._moment = Moment(0, None, {})
        self.encoded = EncodedPrompts()

    # what a family provides

    @abstractmethod
    def _encode(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        """Text to tensors (B, ...), before any edit."""

    @abstractmethod
    def predict(self, state: State, condition: Condition, *, role: str = "cond") -> Tensor:
        """The network's prediction (eps, v, flow, or bit margins), of the latent's shape, guidance-linear."""

    @abstractmethod
    def distance(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The scalar loss between two predictions in which this family trains."""

    @abstractmethod
    def _sample(self, condition: Condition, *, seeds: Sequence[int], steps: int, guidance: float) -> Tensor:
        """Images (B, 3, H, W) or clips (B, F, 3, H, W) in [0, 1]."""

    @abstractmethod
    def gather(self, prompts: Sequence[str], seed: int) -> None:
        """Makes and keeps the frozen network's trajectories of each prompt, for `draw`."""

    @abstractmethod
    def draw(self, condition: Condition, generator: torch.Generator) -> State:
        """One random state per row of the condition, all at the same step, from the gathered trajectories."""

    @abstractmethod
    def modules(self) -> Mapping[str, nn.Module]:
        """Every part with weights, by name."""

    @abstractmethod
    def picture_size(self) -> tuple[int, int]:
        """Height and width of what is sampled, and of pictures to learn from."""

    # what all share

    @property
    def device(self) -> torch.device:
        return next(self.net.parameters()).device

    @property
    def half(self) -> bool:
        """Whether gradients pass through float16, where small ones vanish; see stages.training.float16.LossScale."""
        return any(parameter.dtype == torch.float16 for parameter in self.net.parameters())

    @property
    def text_length(self) -> int | None:
        """Tokens that a prompt may have, None where that is the pipeline's own number."""
        return self.settings.text_length

    def batches(self, n: int, least: int = 1) -> list[slice]:
        """n rows in parts of settings.batch, or of `least` where that is more."""
        size = max(self.settings.batch, least)
        return [slice(start, start + size) for start in range(0, n, size)]

    def encode(self, prompts: Sequence[str]) -> Condition:
        """Prompts to a condition; each prompt is encoded once while nothing touches the text encoder."""
        prompts, written = tuple(prompts), tuple(map(self.written_out, prompts))
        texts = [prompt.text for prompt in written]
        if self.text_swaps:
            with self.at(0, {"cond" if any(texts) else "uncond": slice(0, len(texts))}, prompts=written):
                tensors = self._encode(texts)
        else:
            tensors = self.encoded.stacked(self, texts)
        condition = Condition(prompts, tensors)
        for edit in self.condition_edits:
            condition = edit(condition)
        return condition

    def written_out(self, prompt: str) -> Prompt:
        """The prompt as its tokenizer gets it, aliases replaced by the words that stand for them."""
        return written_out(prompt, {alias: text for words in self.words for alias, text in words.items()})

    def sample(self, condition: Condition, *, seeds: Sequence[int], steps: int, guidance: float) -> Tensor:
        """Images (B, 3, H, W) or clips (B, F, 3, H, W) in [0, 1]; one generator per image, on the CPU."""
        if len(seeds) != len(condition):
            raise ValueError(f"{len(condition)} prompts need as many seeds, got {len(seeds)}")
        sampler: Sampler = self._sample
        for wrap in self.sample_edits:
            sampler = wrap(sampler)
        return sampler(condition, seeds=seeds, steps=steps, guidance=guidance)

    def states(self, condition: Condition, n: int, seed: int) -> Iterator[State]:
        """n batches of partial samples to train on, each with the condition's rows."""
        self.gather(condition.prompts, seed)
        generator = torch.Generator().manual_seed(seed)
        for _ in range(n):
            yield self.draw(condition, generator)

    def picked(self, prompts: Sequence[str], generator: torch.Generator, at: list[int] | slice) -> Tensor:
        """One random row gathered for each prompt, at the positions `at`, on the device; KeyError without any."""
        rows = []
        for prompt in prompts:
            if prompt not in self.pools:
                raise KeyError(f"no samples of {prompt!r}: gather them before anything is attached")
            pool = self.pools[prompt]
            rows.append(pool[int(torch.randint(len(pool), (), generator=generator))][at].to(self.device))
        return torch.stack(rows)

    def examples(self, images: Tensor, generator: torch.Generator) -> tuple[State, Tensor]:
        """States made of pictures (B, 3, H, W) in [0, 1] at one random step, and what `predict` should return there."""
        raise ValueError(f"{self.name} cannot learn from pictures")

    def lesson(self, latents: Tensor, captions: Sequence[str], generator: torch.Generator, draws: int = 1) -> Tensor:
        """The loss of training from scratch on what `embed` made of captioned pictures; `draws` counts random times."""
        raise ValueError(f"{self.name} cannot be trained from scratch")

    def tap(self, site: Site) -> Tap:
        """Where `site` is in this network, or in its text encoders; KeyError says what there is."""
        return lookup(self.text_sites if site.stream == "encoder" else self.sites, site, self.name)

    @property
    def text_sites(self) -> Mapping[Site, Tap]:
        """The blocks of the text encoders, numbered through: `3.block.out@encoder`."""
        return encoder_sites(self.text_parts())

    def tokenizers(self) -> Mapping[str, Any]:
        """The tokenizer of each text encoder, by the encoder's name."""
        return {}

    def features(self) -> Mapping[str, int]:
        """Text encoders whose last states are tokens of the condition's `embeds`, and where there they begin."""
        return {self.TOKENIZER.replace("tokenizer", self.TEXT): 0}

    def select(self, *kinds: str, part: Part = "out", stream: Stream | None = None) -> list[Site]:
        """The sites of the first of `kinds` that this network has, in order of execution."""
        return select(self.sites, *kinds, part=part, stream=stream)

    def weights(self, *kinds: str, projections: Sequence[str] | None = None) -> list[str]:
        """Names of the parameters of the first kind that exists, only of some projections if asked."""
        leaves = None if projections is None else {leaf for p in projections for leaf in self.PROJECTIONS[p]}
        names: dict[str, None] = {}
        for site in self.select(*kinds):
            prefix = self.tap(site).module + "."
            for name, _ in self.net.get_submodule(prefix[:-1]).named_parameters(prefix=prefix[:-1]):
                if leaves is None or name.removeprefix(prefix).split(".")[0] in leaves:
                    names[name] = None
        return list(names)

    def readers(self) -> list[str]:
        """Weights whose input is the encoded text: the keys and values of cross-attention, or the text's way in."""
        if self.READERS:
            return list(self.READERS)
        return [n for n in self.weights("cross_attn", projections=("key", "value")) if n.endswith("weight")]

    def tokenize(self, prompts: Sequence[str]) -> list[list[int]]:
        """Token ids of each prompt, special ones included and padding not, in the order of the condition's embeds."""
        tokenizer = getattr(getattr(self, "pipeline", self), self.TOKENIZER, None)
        if tokenizer is None:
            raise ValueError(f"{self.name} has no tokens that stand for the rows of its text embedding")
        length, last = tokenizer.model_max_length, next(reversed(self.tokenizers()), None)
        if self.TOKENIZER.replace("tokenizer", self.TEXT) == last:  # the long encoder, whose length the settings say
            length = self.text_length or length
        return tokenizer(list(prompts), truncation=True, max_length=length).input_ids

    def cut(self, prompts: Sequence[str]) -> list[int]:
        """How many tokens of each prompt stand beyond the last one that any of the text encoders reads."""
        counts = [self._cut(part, prompts) for part in self.tokenizers()]
        return [min(row) for row in zip(*counts, strict=True)] if counts else [0] * len(prompts)

    def _cut(self, part: str, prompts: Sequence[str]) -> list[int]:
        tokenizer = self.tokenizers()[part]
        length = tokenizer.model_max_length
        if part == next(reversed(self.tokenizers())):  # the long encoder, whose length the settings say
            length = min(self.text_length or length, length)
        texts = [self.written_out(prompt).text for prompt in prompts]
        return [max(len(ids) - length, 0) for ids in tokenizer(texts, truncation=False, verbose=False).input_ids]

    def locate(self, name: str) -> tuple[nn.Module, str]:
        """The module that a parameter's name is relative to, and the name there."""
        if not name.startswith(self.TEXT):
            return self.net, name
        (part, _, path), parts = name.partition("."), self.text_parts()
        if part not in parts:
            raise KeyError(f"{self.name} has no {part}; it has {', '.join(parts) or 'no text encoder'}")
        return parts[part], path

    def text_parts(self) -> dict[str, nn.Module]:
        """The text encoders by name: text_encoder, text_encoder_2 ..."""
        return {name: part for name, part in self.modules().items() if name.startswith(self.TEXT)}

    def parameter(self, name: str) -> Tensor:
        """What is used under that name, of the network or (prefix `text_encoder.`) of a text encoder; KeyError."""
        root, path = self.locate(name)
        module, _, leaf = path.rpartition(".")
        try:
            owner = root.get_submodule(module)
            value = getattr(owner, "base_layer", owner)._parameters[leaf]  # inside peft's layer, where one is injected
        except (AttributeError, KeyError):
            value = None
        if value is None:
            raise KeyError(f"{self.name} has no parameter {name!r}")
        return value

    def extras(self, condition: Condition) -> dict[str, Condition]:
        """The conditions that edits of guidance ask for beside a run's own, by role."""
        asked = {role: what for _, extra in self.guidance_edits for role, what in extra.items()}
        return {
            role: what(condition) if callable(what) else self.encode([what]).repeat(len(condition))
            for role, what in asked.items()
        }

    def combined(self, parts: Mapping[str, Tensor], guidance: float) -> Tensor:
        """The predictions of all roles, through the guidance edits, as uncond + g (cond - uncond)."""
        for fn, _ in self.guidance_edits:
            parts = fn(parts, self.moment(None))
        if "uncond" not in parts:
            return parts["cond"]
        return objectives.guide(parts["uncond"], parts["cond"], guidance)

    def moment(self, site: Site | None) -> Moment:
        """What an edit at `site` may know right now."""
        return replace(self._moment, site=site)

    @contextmanager
    def at(
        self,
        step: int,
        roles: Mapping[str, slice],
        *,
        lengths: tuple[int, ...] = (),
        prompts: tuple[Prompt, ...] = (),
    ) -> Iterator[None]:
        """Says which step is computed and which rows play which role, for the edits that ask; see Moment."""
        before, self._moment = self._moment, Moment(step, None, roles, lengths, prompts)
        try:
            yield
        finally:
            self._moment = before

    def freeze(self) -> None:
        """Puts every part in evaluation mode without gradients."""
        for module in self.modules().values():
            module.eval().requires_grad_(False)
