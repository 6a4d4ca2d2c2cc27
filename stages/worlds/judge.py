"""The judge of the world of shapes: a classifier of the colour and the shape that a picture shows, if any."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from stages.worlds.captions import DIRECTIONS
from stages.worlds.reader import Reader, spec_of
from stages.worlds.shapes import Shapes

NONE = "none"  # the last class of each head: no colour, no clear shape


@dataclass(frozen=True)
class Verdict:
    """The judge's answer for N pictures or clips."""

    colours: tuple[str, ...]  # C names
    shapes: tuple[str, ...]  # S names
    colour: Tensor  # (N, C + 1) probabilities, the last one of no colour
    shape: Tensor  # (N, S + 1) probabilities, the last one of no clear shape
    direction: Tensor | None = None  # (N,) index into DIRECTIONS, -1 at rest; None for pictures
    frames: "Verdict | None" = None  # on the N * F frames of clips, whose mean colour and shape are; None for pictures

    def labels(self) -> tuple[str, ...]:
        """Returns the labels that `named` accepts: colour, shape and, for clips, direction."""
        return ("colour", "shape", "pair") if self.direction is None else ("colour", "shape", "pair", "direction")

    def named(self, label: str) -> list[str]:
        """Returns the name of the likeliest colour, shape or direction of each picture, or `none`.

        A pair is colour and shape, such as `red circle`.
        ValueError for a label that is not in `labels`.
        """
        if label not in self.labels():
            raise ValueError(f"the judge sees {', '.join(self.labels())}, not {label!r}")
        if label == "direction" and self.direction is not None:
            return [(*DIRECTIONS, NONE)[i] for i in self.direction.tolist()]
        if label == "pair":
            return [" ".join(pair) for pair in zip(self.named("colour"), self.named("shape"), strict=True)]
        names = (*(self.colours if label == "colour" else self.shapes), NONE)
        return [names[i] for i in getattr(self, label).argmax(1).tolist()]

    def shows(self, target: Mapping[str, str | Sequence[str]]) -> Tensor:
        """Returns (N, F) bool: whether each frame shows all of `target`, such as {"colour": "red"}; pictures have one.

        Of a label's values in a list, any counts.

        A clip's direction is that of all its frames. ValueError for a label that is not in `labels`.
        """
        each = []
        for label, wanted in target.items():
            any_of = (wanted,) if isinstance(wanted, str) else tuple(wanted)
            of = self if self.frames is None or label not in self.frames.labels() else self.frames
            each.append(torch.tensor([name in any_of for name in of.named(label)]).reshape(len(self.colour), -1))
        return torch.stack(torch.broadcast_tensors(*each)).all(0)

    def over_clips(self, direction: Tensor) -> "Verdict":
        """Returns the verdict on N clips that move in `direction` (N,), from this one on their N * F frames."""
        colour, shape = (each.unflatten(0, (len(direction), -1)).mean(1) for each in (self.colour, self.shape))
        return Verdict(self.colours, self.shapes, colour, shape, direction, self)

    def broken(self) -> Tensor:
        """Returns (N,) bool: whether each picture shows no clear shape."""
        return self.shape.argmax(1) == len(self.shapes)

    def probabilities(self) -> Tensor:
        """Returns (N, C + S + 2), of all colours and shapes."""
        return torch.cat([self.colour, self.shape], 1)


class Judge(Reader):
    """Classifies pictures (N, 3, H, W) in [0, 1] by colour and shape; its features serve distances of distributions.

    >>> judge = Judge.load("artifacts/worlds/shapes/judge")
    >>> judge.look(images).named("colour")
    ['red', 'blue', 'none']
    """

    drawn = ("colour", "shape", "direction")  # labels that `Shapes.renders` takes

    def __init__(self, colours: tuple[str, ...], shapes: tuple[str, ...], width: int = 32, depth: int = 64) -> None:
        super().__init__((width, 2 * width, 4 * width), depth)
        self.colours, self.shapes, self.width = tuple(colours), tuple(shapes), width
        self.colour = nn.Linear(depth, len(colours) + 1)
        self.shape = nn.Linear(depth, len(shapes) + 1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the logits of colour (N, C + 1) and of shape (N, S + 1) for pictures (N, 3, H, W) in [0, 1]."""
        features = self._read(images)
        return self.colour(features), self.shape(features)

    @torch.no_grad()
    def look(self, images: Tensor) -> Verdict:
        """Returns the verdict on pictures (N, 3, H, W), or on clips (N, F, 3, H, W): the mean over their frames."""
        logits = [self(part) for part in images.reshape(-1, *images.shape[-3:]).split(256)]
        joined = (torch.cat(part) for part in zip(*logits, strict=True))
        colour, shape = (part.softmax(1) for part in joined)
        each = Verdict(self.colours, self.shapes, colour, shape)
        return each if images.ndim == 4 else each.over_clips(direction(images))

    def world(self, size: int) -> Shapes:
        """The world of its colours and shapes, with pictures of that size."""
        return Shapes(size=size, colours=self.colours, shapes=self.shapes)

    def save(self, folder: str | Path) -> None:
        """Writes judge.safetensors and judge.json."""
        spec = {"colours": self.colours, "shapes": self.shapes, "width": self.width, "depth": self.depth}
        self._write(folder, spec)

    @classmethod
    def load(cls, folder: str | Path) -> "Judge":
        """Returns the judge in evaluation mode.

        FileNotFoundError or ValueError names a file that is missing, damaged or does not fit.
        """
        judge = cls(**spec_of(folder, f"python -m stages.pretrain judge --out {folder}"))
        judge._filled(folder)
        return judge


def direction(clips: Tensor, least: float = 0.04) -> Tensor:
    """Returns (N,) the direction in which the shape of each clip (N, F, 3, H, W) moves: index into DIRECTIONS, or -1.

    It follows the centroid of the pixels that differ from the border. A shape that travels less than `least`, a share
    of the picture's size, is at rest (-1).
    """
    border = torch.cat([clips[..., 0, :], clips[..., -1, :], clips[..., 0], clips[..., -1]], -1).median(-1).values
    ink = ((clips - border[..., None, None]).abs().amax(2) - 0.15).clamp(min=0)  # (N, F, H, W)
    total = ink.sum((-2, -1)).clamp(min=1e-6)
    rows, columns = (torch.linspace(0, 1, size, device=clips.device) for size in ink.shape[-2:])
    track = torch.stack([(ink.sum(-2) @ columns) / total, (ink.sum(-1) @ rows) / total], -1)  # (N, F, 2)
    time = torch.linspace(-1, 1, clips.shape[1], device=clips.device)
    travel = 2 * (track * time[None, :, None]).sum(1) / time.square().sum()  # of the line of least squares
    axis = travel.abs().argmax(1)
    along = travel.gather(1, axis[:, None])[:, 0]
    return torch.where(along.abs() < least, -1, 2 * axis + (along > 0))
