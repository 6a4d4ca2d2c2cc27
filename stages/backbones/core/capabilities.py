"""Abilities of some families alone, as small protocols that a method asks for by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from Infinity import Schedule
from stages.backbones.core.forward_process import ForwardProcess
from stages.backbones.core.solver import Solver
from stages.control.state import Condition, State


@runtime_checkable
class Walks(Protocol):
    """A denoising run that can stop at every state, and whose single steps can be taken again."""

    scheduler: Any

    def noise(self, seeds: Sequence[int], shape: tuple[int, ...] | None = None) -> Tensor:
        """Starting noise (B, ...)."""

    def begin(self, seeds: Sequence[int]) -> tuple[Tensor, list[torch.Generator]]:
        """Starting noise (B, ...), and the generators that go on to own the noise of the steps."""

    def walk(
        self,
        condition: Condition,
        latent: Tensor,
        *,
        steps: int,
        guidance: float,
        generators: Sequence[torch.Generator] | None = None,
        first: int = 0,
    ) -> Iterator[State]:
        """Every state of a run, from noise (B, ...), or from the latent of call `first`, to the final one."""

    def solver(self, steps: int) -> Solver:
        """A new solver of `steps` steps."""


@runtime_checkable
class Diffuses(Protocol):
    """A forward process: clean latents can be noised, and a prediction implies a clean latent."""

    @property
    def process(self) -> ForwardProcess:
        """The process behind the family's scheduler."""

    def finals(self, condition: Condition, generator: torch.Generator) -> Tensor:
        """The final latents (B, ...) of one gathered run per row."""

    def decode(self, latent: Tensor) -> Tensor:
        """Latents (B, ...) to pictures (B, 3, H, W) or clips (B, F, 3, H, W) in [0, 1]."""


@runtime_checkable
class Bits(Protocol):
    """Predictions of bits, each scale given the bits of the coarser ones."""

    schedule: Schedule

    def forced(self, tokens: Tensor) -> State:
        """The state in which every scale is fed the coarser bits of `tokens` (B, L, bits)."""

    def completed(self, condition: Condition, tokens: Tensor, scales: int, *, seeds: Sequence[int]) -> Tensor:
        """Pictures (B, 3, H, W) whose first scales are those of `tokens` (B, L, bits), the rest drawn."""


@runtime_checkable
class Learns(Protocol):
    """Training on given pictures."""

    def picture_size(self) -> tuple[int, int]:
        """Height and width in pixels of samples, and of pictures to learn from."""

    def embed(self, images: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) or clips (B, F, 3, H, W) in [0, 1] as the network's latents or features (B, ...)."""

    def examples(self, images: Tensor, generator: torch.Generator, *, together: bool = False) -> tuple[State, Tensor]:
        """States made of pictures (B, 3, H, W) in [0, 1], and the predictions (B, ...) that are right there.

        Of random training times if the family has them: one per row, or one for all rows `together`, so that edits that
        know the sampler's step are told a true one.
        """


@runtime_checkable
class Skips(Protocol):
    """A U-Net, whose later layers also read what earlier ones put out."""

    def skips(self) -> Mapping[str, int]:
        """The layers that read a skip, by path, and the channels of their input that stand before the skip's."""


@runtime_checkable
class Saves(Protocol):
    """A checkpoint that this project, and others, load again."""

    def save(self, folder: Path) -> None:
        """Writes every part into a folder, in the family's own format."""


LACKS = {
    Walks: "has no denoising run to stop half way",
    Diffuses: "has no forward process, and its predictions imply no final latent",
    Bits: "predicts no bits",
    Learns: "cannot learn from pictures",
    Saves: "has no form on disk",
    Skips: "has no skips from earlier layers to later ones",
}
Capability = TypeVar("Capability")


def needs(backbone: Any, capability: type[Capability], otherwise: str) -> Capability:
    """The backbone as one that has the capability; ValueError says what it lacks and the way out, `otherwise`.

    `needs(backbone, Walks, "choose states: frozen")`.
    """
    if not isinstance(backbone, capability):
        raise ValueError(f"{backbone.name} {LACKS[capability]}; {otherwise}")
    return backbone
