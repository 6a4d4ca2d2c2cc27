"""The worlds by name, and what the rest of the house needs of one.

A world is a frozen dataclass that draws, a vocabulary, a judge and the functions that train its parts. Nothing is
imported before it is asked for, so that reading names costs nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from stages.params import construct, suggestion

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedTokenizerFast

Exclude = str | Sequence[str] | None  # a concept or several, neither drawn nor named


class Drawn(Protocol):
    """N captioned pictures (N, 3, H, W) or clips (N, F, 3, H, W) in [0, 1]."""

    @property
    def images(self) -> Tensor: ...
    @property
    def captions(self) -> list[str]: ...


class World(Protocol):
    """Pictures and clips whose truth is known. ValueError for a concept to `exclude` that is not of this world."""

    @property
    def size(self) -> int:
        """Pixels, height and width."""

    def sample(self, n: int, seed: int, exclude: Exclude = None) -> Drawn:
        """Captioned pictures."""

    def draw(self, n: int, generator: torch.Generator, exclude: Exclude = None) -> Drawn:
        """The same, drawn from a generator."""

    def clips(self, n: int, seed: int, frames: int = 9, exclude: Exclude = None) -> Drawn:
        """Captioned clips."""

    def renders(
        self, rows: Sequence[Mapping[str, str]], generator: torch.Generator, frames: int | None = None
    ) -> Tensor:
        """A picture, or a clip of `frames`, of the labels (kind -> name) of each row; one left open may be any."""


class Verdict(Protocol):
    """A judge's answer for N pictures or clips."""

    def labels(self) -> tuple[str, ...]:
        """The labels that `named` takes."""

    def named(self, label: str) -> list[str]:
        """The likeliest name of each, or `none`."""

    def shows(self, target: Mapping[str, str | Sequence[str]]) -> Tensor:
        """(N, F) bool: whether each frame shows all of a target; pictures have one."""

    def broken(self) -> Tensor:
        """(N,) bool: whether nothing clear is to be seen."""

    def probabilities(self) -> Tensor:
        """(N, K), of every name of every kind."""


class Judge(Protocol):
    """Says what pictures show."""

    def __hash__(self) -> int: ...

    @property
    def drawn(self) -> tuple[str, ...]:
        """The labels that `World.renders` takes, the two of a `pair` first."""

    def look(self, images: Tensor) -> Verdict:
        """The verdict on pictures (N, 3, H, W) or clips (N, F, 3, H, W) in [0, 1]."""

    def features(self, images: Tensor) -> Tensor:
        """Standardised features (N, D) of pictures (N, 3, H, W) in [0, 1]."""

    def world(self, size: int) -> World:
        """The world that it judges, with pictures of that size."""


@dataclass(frozen=True)
class Paths:
    """Where the parts of a world stand, as import paths."""

    world: str  # a dataclass of the protocol World
    tokenizer: str  # () -> its tokenizer
    classes: str  # () -> class id: names, for generators without text
    judge: str  # a class of the protocol Judge, with `load`
    trained: Mapping[str, str]  # part -> (world, *, seed) -> what was trained, and its losses


WORLDS: dict[str, Paths] = {
    "shapes": Paths(
        "stages.worlds.shapes.Shapes",
        "stages.worlds.words.make_tokenizer",
        "stages.worlds.classes.classes",
        "stages.worlds.judge.Judge",
        {
            "judge": "stages.worlds.train_judge.train_judge",
            "autoencoder": "stages.worlds.autoencoder.train_autoencoder",
            "tokenizer": "stages.worlds.tokenizer.train_tokenizer",
        },
    ),
    "scenes": Paths(
        "stages.worlds.scenes.world.Scenes",
        "stages.worlds.scenes.words.make_tokenizer",
        "stages.worlds.scenes.classes.classes",
        "stages.worlds.scenes.judge.Judge",
        {
            "judge": "stages.worlds.scenes.train_judge.train_judge",
            "autoencoder": "stages.worlds.scenes.train_autoencoder.train_autoencoder",
            "tokenizer": "stages.worlds.scenes.train_tokenizer.train_tokenizer",
        },
    ),
}


def paths(name: str) -> Paths:
    """The parts of a world; ValueError for an unknown name."""
    if name not in WORLDS:
        raise ValueError(f"no world {name!r}{suggestion(name, list(WORLDS))}")
    return WORLDS[name]


def make_world(name: str, fields: Mapping[str, Any] | None = None, where: str = "world") -> World:
    """A world with some `fields` of its own; ValueError for unknown ones, with `where` they stand."""
    world: World = construct(_at(paths(name).world), fields or {}, where)
    return world


def make_tokenizer(name: str) -> PreTrainedTokenizerFast:
    """The tokenizer of a world's captions."""
    return _at(paths(name).tokenizer)()


def classes(name: str) -> dict[int, str]:
    """Class id -> names, comma-separated, in place of a world's captions."""
    found: dict[int, str] = _at(paths(name).classes)()
    return found


def train_part(name: str, part: str, seed: int) -> Any:
    """A part of a world, trained from nothing; ValueError for one that the world does not have."""
    *_, path = code_of(name, part)
    return _at(path)(make_world(name), seed=seed)[0]


def code_of(name: str, part: str) -> list[str]:
    """The import paths of the code that a part of a world rests on; ValueError as of `train_part`."""
    parts = paths(name)
    if part not in parts.trained:
        raise ValueError(f"the world of {name} has no {part}{suggestion(part, list(parts.trained))}")
    return [parts.world, *([parts.judge] if part == "judge" else []), parts.trained[part]]


def load_judge(folder: str | Path) -> Judge:
    """The judge that was saved in a folder, of whatever world.

    FileNotFoundError or ValueError names a file that is missing, damaged or does not fit.
    """
    judge: Judge = _at(paths(_world_of(Path(folder))).judge).load(folder)
    return judge


def _world_of(folder: Path) -> str:
    """The world of a judge, as its file says; of one that is not there, that whose folder it would lie in."""
    path, first = folder / "judge.json", next(iter(WORLDS))
    if path.is_file():
        try:
            return str(json.loads(path.read_text()).get("world", first))
        except (ValueError, AttributeError) as error:
            raise ValueError(f"{path}: not the description of a judge: {error}") from None
    return next((part for part in reversed(folder.parts) if part in WORLDS), first)


def _at(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)
