"""The backbone: a frozen network that has a text side, addresses, attached edits and trajectories."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from stages import seeds
from stages.backbones.core.finite import check_finite
from stages.backbones.core.guidance import Guidance, Guider, Roles, telling
from stages.backbones.core.settings import Settings
from stages.backbones.core.trajectories import Trajectories
from stages.backbones.text.cache import EmbeddingCache
from stages.backbones.text.encoded import EncodedPrompts
from stages.backbones.text.texts import Texts
from stages.control.addresses import PROJECTIONS, Addresses
from stages.control.attached import Attached
from stages.control.sites import Part, Site, Stream, Tap
from stages.control.state import Condition, State
from stages.params.kept import Kept
from stages.params.project import home
from stages.seeds import Purpose

log = logging.getLogger(__name__)

TURN = 32  # smallest batch of prompts if the encoders have to be moved to the device first


class Backbone(ABC):
    """A frozen generator. `encode`, `predict` and `sample` honour whatever is attached; see stages.control.edits.

    Abilities of some families alone are in stages.backbones.core.capabilities.

        backbone = load_backbone("sd-shapes")
        condition = backbone.encode(["a red circle", "a blue square"])
        with intervention.attach(backbone):
            images = backbone.sample(condition, seeds=[0, 1], steps=20, guidance=3.0)  # (2, 3, H, W) in [0, 1]
    """

    PROJECTIONS: ClassVar[Mapping[str, tuple[str, ...]]] = PROJECTIONS
    READERS: ClassVar[tuple[str, ...]] = ()  # weights that read the encoded text if no cross-attention does
    BESIDE: ClassVar[Mapping[str, tuple[str, ...]]] = {}  # modules outside the blocks, by the kind of layer they are
    ENDS: ClassVar[tuple[str, ...]] = ()  # how the names of time embedding and output layers begin
    TEXT_FIRST: ClassVar[bool] = True  # whether text stands before the image in joint attention
    WHOLE: ClassVar[bool] = False  # whether a sample is one state, of which nothing can be left out
    NET: ClassVar[str] = "transformer"  # the pipeline's name of the network
    ROLES: ClassVar[tuple[str, str]] = ("cond", "uncond")  # order of the rows of a guided batch

    def __init__(self, name: str, settings: Settings, net: nn.Module, texts: Texts | None = None) -> None:
        self.name, self.settings, self.net = name, settings, net
        self.texts = texts or Texts(name)
        self.attached, self.trajectories, self.encoded = Attached(), Trajectories(), EncodedPrompts()
        self.addresses = Addresses(
            name,
            net,
            self._find_sites(),
            self.texts,
            projections=self.PROJECTIONS,
            readers=self.READERS,
            extra=self.BESIDE,
        )
        self._said_unguided = False

    # what a family provides

    @abstractmethod
    def _find_sites(self) -> Mapping[Site, Tap]:
        """The address table of the network."""

    @abstractmethod
    def _encode(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        """Text to tensors (B, ...), before any edit."""

    @abstractmethod
    def predict(self, state: State, condition: Condition, *, role: str = "cond") -> Tensor:
        """The network's prediction (eps, v, flow or bit margins) for every row of the state.

        Of the latent's shape (B, ...) and linear in guidance; `role` is the one that activation edits see.
        """

    @abstractmethod
    def _guided(self, state: State, roles: Roles, factor: float) -> Tensor:
        """The predictions of all roles through the guidance edits, as uncond + factor (cond - uncond), (B, ...)."""

    @abstractmethod
    def _unconditional(self, condition: Condition) -> Condition:
        """What guidance moves away from, for every row of the condition."""

    @abstractmethod
    def distance(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The scalar loss between two predictions (B, ...) in which this family trains."""

    @abstractmethod
    def _sample(self, condition: Condition, *, seeds: Sequence[int], steps: int, guidance: float) -> Tensor:
        """Images (B, 3, H, W) or clips (B, F, 3, H, W) in [0, 1]."""

    @abstractmethod
    def _make_pool(self, prompt: str, seeds: Sequence[int], states: Kept) -> Tensor:
        """The network's own samples (n, ...) of a prompt, one per seed, on the CPU; of each those states."""

    @abstractmethod
    def draw(self, condition: Condition, generator: torch.Generator) -> State:
        """One random state per row of the condition, all at the same step, from the gathered trajectories.

        KeyError if the trajectories of a prompt are not gathered.
        """

    @abstractmethod
    def calls(self, steps: int) -> int:
        """Calls of the network in a run of `steps` steps, as `Moment.step` counts them.

        Some solvers call it twice a step; Infinity calls it once a scale, however many steps are asked for.
        """

    @abstractmethod
    def modules(self) -> Mapping[str, nn.Module]:
        """Every part with weights, by name."""

    # what all share

    @property
    def device(self) -> torch.device:
        """Where the network runs."""
        return next(self.net.parameters()).device

    @property
    def through_float16(self) -> bool:
        """Whether gradients pass through float16, where small ones vanish; see stages.training.float16.LossScale."""
        return any(parameter.dtype == torch.float16 for parameter in self.net.parameters())

    @property
    def sites(self) -> Mapping[Site, Tap]:
        """The address table of the network, in order of execution."""
        return self.addresses.sites

    def select(self, *kinds: str, part: Part = "out", stream: Stream | None = None) -> list[Site]:
        """The sites of the first of `kinds` that this network has; see `Addresses.select`."""
        return self.addresses.select(*kinds, part=part, stream=stream)

    def weights(self, *kinds: str, projections: Sequence[str] | None = None) -> list[str]:
        """Names of the parameters of the first of `kinds` that this network has; see `Addresses.weights`."""
        return self.addresses.weights(*kinds, projections=projections)

    def encode(self, prompts: Sequence[str]) -> Condition:
        """Prompts (B) to a condition of B rows; each prompt is encoded once while nothing edits the text encoders.

        ValueError for a prompt that the family does not understand.
        """
        prompts = tuple(map(self.attached.rewrite, prompts))
        written = tuple(map(self.attached.write_out, prompts))
        texts = [prompt.text for prompt in written]
        if self.attached.text_swaps:
            with self.attached.at(0, {"cond" if any(texts) else "uncond": slice(0, len(texts))}, prompts=written):
                tensors = self._encode(texts)
        else:
            batch = max(self.settings.batch, TURN if self.settings.offload != "none" else 1)
            tensors = self.encoded.stacked(texts, self._encode, batch, self._open_cache)
        return self.attached.edit_condition(Condition(prompts, tensors))

    def guider(self, condition: Condition, guidance: float) -> Guider:
        """The prediction under that guidance for states of the condition's rows; the family says what guidance means.

        Classifier-free guidance above 1 takes a pass for the empty prompt beside the condition's; up to 1 the condition
        stands alone, unless an edit asks for more. A network that was distilled to be told its guidance is told this
        one. One that is sampled without any, `settings.guidance` being at most 1, stays without, which the log says.
        """
        means, roles = self._guidance(guidance), {"cond": condition}
        extras = self.attached.extra_conditions(condition, self.encode)
        if means.factor > 1 or extras:
            both = {"cond": condition, "uncond": self._unconditional(condition)}
            roles = {role: both[role] for role in self.ROLES} | extras
        return Guider(roles if means.told is None else telling(roles, means.told), means, self._guided)

    def sample(
        self,
        condition: Condition,
        *,
        seeds: Sequence[int],
        steps: int,
        guidance: float,
        size: tuple[int, int] | None = None,
    ) -> Tensor:
        """Images (B, 3, H, W) or clips (B, F, 3, H, W) in [0, 1]; one generator per image, on the CPU.

        `size` is height and width in pixels, that of the settings if None. ValueError unless there is one seed per row
        of the condition, and for a size that the family does not draw.
        """
        if len(seeds) != len(condition):
            raise ValueError(f"{len(condition)} prompts need as many seeds, got {len(seeds)}")
        sampler = self.attached.wrap_sampler(self._sample)
        with self._sized(size):
            return sampler(condition, seeds=seeds, steps=steps, guidance=guidance)

    @torch.no_grad()
    def gather(self, prompts: Sequence[str], seed: int, states: Kept = "all", into: Path | None = None) -> None:
        """Samples settings.pool trajectories per prompt with the network as it is now, for `draw`.

        Those that are there already are not made again. Of each run only those `states` are kept; `into` a file, one
        prompt after another, and not in memory. FloatingPointError if one is not finite.
        """
        states = "all" if self.WHOLE else states
        if into is None:
            self.encode(self._encoded_together(self.trajectories.missing(prompts, states)))
            self.trajectories.gather(prompts, seed, self.settings.pool, self._make_finite_pool, states)
        else:
            self.encode(self._encoded_together(list(dict.fromkeys(prompts))))
            self.trajectories.write(into, prompts, seed, self.settings.pool, self._make_finite_pool, states)

    def states(self, condition: Condition, n: int, seed: int) -> Iterator[State]:
        """n batches of partial samples to train on, each with the condition's rows."""
        self.gather(condition.prompts, seed)
        generator = seeds.generator(Purpose.PARTIAL, seed)
        for _ in range(n):
            yield self.draw(condition, generator)

    def _check_size(self) -> None:
        """ValueError for a size in the settings that the network cannot draw: any, unless the family says more."""
        raise ValueError(f"{self.name}: draws pictures of its own size alone; for published prompts: ignore: [size]")

    @contextmanager
    def _sized(self, size: tuple[int, int] | None) -> Iterator[None]:
        """Settings of that size while the block runs."""
        own = self.settings
        if size is None or size == own.size:
            yield
            return
        self.settings = replace(own, size=size)
        try:
            self._check_size()
            yield
        finally:
            self.settings = own

    def _guidance(self, asked: float) -> Guidance:
        """What the family makes of a guidance that is asked for."""
        if self.settings.guidance > 1:
            return Guidance(max(asked, 1.0))
        if asked > 1 and not self._said_unguided:
            own = f"its guidance is {self.settings.guidance:g}"
            log.warning("%s: guidance %g is not applied: it is sampled without any (%s)", self.name, asked, own)
            self._said_unguided = True
        return Guidance()

    def _open_cache(self) -> EmbeddingCache | None:
        if self.settings.cache is None or not self.texts.names:
            return None
        kind = f"{type(self).__name__} {self.texts.length}"
        return EmbeddingCache(home() / self.settings.cache, self.texts.encoders(), kind, str(self.device))

    def _encoded_together(self, prompts: Sequence[str]) -> list[str]:
        """The prompts that are encoded in one batch before the pools of `prompts` are made."""
        return [""]

    def _make_finite_pool(self, prompt: str, seeds: Sequence[int], states: Kept) -> Tensor:
        pool = self._make_pool(prompt, seeds, states)
        return check_finite(self, "trajectory", pool, [prompt] * len(pool), seeds) if pool.is_floating_point() else pool


def freeze(modules: Iterable[nn.Module]) -> None:
    """Puts every part in evaluation mode without gradients."""
    for module in modules:
        module.eval().requires_grad_(False)
