"""The judge of the world of scenes: a classifier of each kind of label that a picture shows, if any."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from stages.worlds.judge import NONE, direction
from stages.worlds.reader import Reader, spec_of
from stages.worlds.scenes.labels import DIRECTIONS, LABELS, OPPOSITE, PLACES
from stages.worlds.scenes.world import Scenes

PAIR = "pair"  # colour and object, such as `red circle`
SECOND = {"colour": "other_colour", "object": "other_object", "other_colour": "colour", "other_object": "object"}


@dataclass(frozen=True)
class Verdict:
    """The judge's answer for N pictures or clips.

    Of two objects the first is the left or the upper one: `other_colour` and `other_object` are the second's.
    """

    answers: Mapping[str, Tensor]  # kind -> (N, K + 1) probabilities of its names, the last one of none of them
    least: float  # probability of the likeliest object or figure below which a picture is broken
    direction: Tensor | None = None  # (N,) index into DIRECTIONS, -1 at rest; None for pictures
    frames: "Verdict | None" = None  # on the N * F frames of clips, whose mean the answers are; None for pictures

    def labels(self) -> tuple[str, ...]:
        """Returns the labels that `named` accepts: each kind, the pair and, for clips, direction."""
        return (*self.answers, PAIR) if self.direction is None else (*self.answers, PAIR, "direction")

    def named(self, label: str) -> list[str]:
        """Returns the likeliest name of each picture, or `none`; ValueError for a label that is not in `labels`."""
        if label not in self.labels():
            raise ValueError(f"the judge sees {', '.join(self.labels())}, not {label!r}")
        if label == "direction" and self.direction is not None:
            return [(*DIRECTIONS, NONE)[i] for i in self.direction.tolist()]
        if label == PAIR:
            return [" ".join(pair) for pair in zip(self.named("colour"), self.named("object"), strict=True)]
        names = (*LABELS[label], NONE)
        return [names[i] for i in self.answers[label].argmax(1).tolist()]

    def shows(self, target: Mapping[str, str | Sequence[str]]) -> Tensor:
        """Returns (N, F) bool: whether each frame shows all of `target`, such as {"colour": "red"}; pictures have one.

        Either of two objects counts. Of a label's values in a list, any does. A clip's direction is that of all its
        frames. ValueError for a label that is not in `labels`.
        """
        still = {label: wanted for label, wanted in target.items() if label != "direction" or self.direction is None}
        of = self if self.frames is None else self.frames
        shown = (of._first_shows(still) | of._second()._first_shows(still)).reshape(self._count(), -1)
        if len(still) == len(target):
            return shown
        return shown & self._first_shows({"direction": target["direction"]})[:, None]

    def over_clips(self, direction: Tensor) -> "Verdict":
        """Returns the verdict on N clips that move in `direction` (N,), from this one on their N * F frames."""
        mean = {kind: each.unflatten(0, (len(direction), -1)).mean(1) for kind, each in self.answers.items()}
        return Verdict(mean, self.least, direction, self)

    def recognised(self) -> Tensor:
        """Returns (N,) the probability of the likeliest object or figure."""
        return torch.maximum(*(self.answers[kind][:, :-1].amax(1) for kind in ("object", "figure")))

    def broken(self) -> Tensor:
        """Returns (N,) bool: whether each picture shows no clear object and no clear figure."""
        return self.recognised() < self.least

    def probabilities(self) -> Tensor:
        """Returns (N, K), of all names of all kinds."""
        return torch.cat(list(self.answers.values()), 1)

    def _count(self) -> int:
        return len(self.answers["object"])

    def _first_shows(self, target: Mapping[str, str | Sequence[str]]) -> Tensor:
        each = [torch.ones(self._count(), dtype=torch.bool)]
        for label, wanted in target.items():
            any_of = (wanted,) if isinstance(wanted, str) else tuple(wanted)
            each.append(torch.tensor([name in any_of for name in self.named(label)]))
        return torch.stack(each).all(0)

    def _second(self) -> "Verdict":
        """The verdict as if the second object were the first; where there is none, it has no labels."""
        there = self.answers["other_object"].argmax(1) < len(LABELS["other_object"])
        order = [*OPPOSITE, len(PLACES)]
        changed = {kind: self.answers[SECOND.get(kind, kind)] for kind in self.answers}
        changed["place"] = changed["place"][:, order]
        nothing = {kind: torch.eye(each.shape[1])[-1].to(each) for kind, each in changed.items()}
        answers = {kind: torch.where(there[:, None], each, nothing[kind]) for kind, each in changed.items()}
        return Verdict(answers, self.least)


class Judge(Reader):
    """Classifies pictures (N, 3, H, W) in [0, 1] by each kind of label; its features serve distances of distributions.

    >>> judge = Judge.load("artifacts/worlds/scenes/judge")
    >>> judge.look(images).named("style")
    ['neon', 'flat', 'none']
    """

    drawn = (*LABELS, "direction")  # labels that `Scenes.renders` takes

    least: Tensor  # () the probability that `Verdict.broken` reads

    def __init__(self, width: int = 24, depth: int = 96, kinds: Mapping[str, Sequence[str]] = LABELS) -> None:
        super().__init__((width, 2 * width, 4 * width, 5 * width), depth)
        self.width, self.kinds = width, {kind: tuple(names) for kind, names in kinds.items()}
        if self.kinds != dict(LABELS):
            raise ValueError(
                "a judge of other labels than this world's; train it again: python -m stages.pretrain judge"
            )
        self.heads = nn.ModuleDict({kind: nn.Linear(depth, len(names) + 1) for kind, names in self.kinds.items()})
        self.register_buffer("least", torch.tensor(0.5))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Returns the logits of each kind, (N, K + 1), for pictures (N, 3, H, W) in [0, 1]."""
        features = self._read(images)
        return {kind: head(features) for kind, head in self.heads.items()}

    @torch.no_grad()
    def calibrate(self, *parts: Tensor, alarms: float = 0.005) -> None:
        """Sets the probability below which a picture is broken: at most a share `alarms` of each part would be.

        A part holds sound pictures (N, 3, H, W) or clips (N, F, 3, H, W).
        """
        lowest = torch.stack([self.look(part).recognised().quantile(alarms) for part in parts]).amin()
        self.least.copy_(lowest.clamp(0.3, 0.7))

    @torch.no_grad()
    def look(self, images: Tensor) -> Verdict:
        """Returns the verdict on pictures (N, 3, H, W), or on clips (N, F, 3, H, W): the mean over their frames."""
        parts = [self(part) for part in images.reshape(-1, *images.shape[-3:]).split(256)]
        answers = {kind: torch.cat([part[kind] for part in parts]).softmax(1) for kind in self.kinds}
        each = Verdict(answers, float(self.least))
        return each if images.ndim == 4 else each.over_clips(direction(images))

    def world(self, size: int) -> Scenes:
        """The world, with pictures of that size and every figure."""
        return Scenes(size=size, withheld=())

    def save(self, folder: str | Path) -> None:
        """Writes judge.safetensors and judge.json."""
        self._write(folder, {"world": "scenes", "width": self.width, "depth": self.depth, "kinds": self.kinds})

    @classmethod
    def load(cls, folder: str | Path) -> "Judge":
        """Returns the judge in evaluation mode.

        FileNotFoundError or ValueError names a file that is missing, damaged or does not fit.
        """
        spec = spec_of(folder, f"python -m stages.pretrain judge --world scenes --out {folder}")
        judge = cls(spec["width"], spec["depth"], spec["kinds"])
        judge._filled(folder)
        return judge
