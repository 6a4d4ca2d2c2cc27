"""The world of scenes: captioned pictures and clips of coloured objects and named figures, whose truth is known."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from stages import seeds
from stages.seeds import Purpose
from stages.worlds.by_name import Exclude
from stages.worlds.scenes import combinations
from stages.worlds.scenes.grammar import write_captions
from stages.worlds.scenes.labels import DEFAULTS, DIRECTIONS, LABELS, STYLES, WITHHELD
from stages.worlds.scenes.looks import TILES
from stages.worlds.scenes.palette import INKS, PAPERS
from stages.worlds.scenes.render import Things, rasterise

HEADINGS = ((0.0, 0.0), (-1.0, 0.0), (1.0, 0.0), (0.0, -1.0), (0.0, 1.0))  # of PLACES; of DIRECTIONS without the first


@dataclass(frozen=True)
class Batch:
    """N pictures or clips, their captions and their truth."""

    images: Tensor  # (N, 3, H, W), or (N, F, 3, H, W) for clips, in [0, 1]
    captions: list[str]  # N; some leave labels out
    labels: Mapping[str, Tensor]  # kind -> (N,) index into the kind's names, -1 where it does not apply


@dataclass(frozen=True)
class Scenes:
    """Draws one coloured object, two, or a figure, on one of three backgrounds.

    >>> batch = Scenes().sample(8, seed=0)
    >>> batch.images.shape, batch.captions[0]
    (torch.Size([8, 3, 64, 64]), 'a photo of a striped red star')

    Lengths are pixels at size 64 and scale with `size`. ValueError for a size that is not a multiple of 8, and for
    shares that leave no picture of one object.
    """

    size: int = 64  # pixels, height and width
    figures: float = 0.25  # share of pictures of a figure
    pairs: float = 0.1  # share of pictures of two objects
    withheld: tuple[str, ...] = WITHHELD  # concepts that are never drawn nor named, unless `render` is asked for them
    offset: float = 1.5  # pixels that a centre may be off its place, each way
    rotation: float = 0.1  # radians, each way
    spread: float = 1.0  # pixels that the radius of a thing in the middle may differ, each way
    travel: float = 20.0  # pixels that a clip's object moves from the first to the last frame

    def __post_init__(self) -> None:
        if self.size < 16 or self.size % TILES:
            raise ValueError(f"size must be a multiple of {TILES} and 16 or more, got {self.size}")
        if min(self.figures, self.pairs) < 0 or self.figures + self.pairs >= 1:
            raise ValueError(f"figures and pairs must be shares that leave some, got {self.figures} and {self.pairs}")

    @property
    def names(self) -> Mapping[str, tuple[str, ...]]:
        """The names of each kind of label; those of clips are of `direction`, too."""
        return {**LABELS, "direction": DIRECTIONS}

    def sample(self, n: int, seed: int, exclude: Exclude = None) -> Batch:
        """Returns `n` captioned pictures; concepts to `exclude` are neither drawn nor named.

        A concept is a name of any kind ("red", "star", "neon", "tivvy") or several of one object ("red star").
        ValueError for an unknown one.
        """
        return self.draw(n, seeds.generator(Purpose.WORLD, seed), exclude)

    def draw(self, n: int, generator: torch.Generator, exclude: Exclude = None) -> Batch:
        """Returns `n` captioned pictures as `sample` does, drawn from `generator`."""
        labels = self._pick(n, generator, exclude, clips=False)
        images = self.render(labels, generator)
        return Batch(images, write_captions(named(labels), generator), labels)

    def clips(self, n: int, seed: int, frames: int = 9, exclude: Exclude = None) -> Batch:
        """Returns `n` captioned clips of a thing that moves left, right, up or down on a dark background.

        ValueError as of `sample`.
        """
        return self.draw_clips(n, seeds.generator(Purpose.WORLD, seed), frames, exclude)

    def draw_clips(self, n: int, generator: torch.Generator, frames: int = 9, exclude: Exclude = None) -> Batch:
        """Returns `n` captioned clips as `clips` does, drawn from `generator`."""
        labels = self._pick(n, generator, exclude, clips=True)
        images = self.film(labels, generator, frames)
        return Batch(images, write_captions(named(labels), generator), labels)

    def render(self, labels: Mapping[str, Tensor], generator: torch.Generator) -> Tensor:
        """Returns pictures (N, 3, H, W) in [0, 1] of labels (N,).

        Kinds that are missing are the default; a missing background is dark, a missing figure or second object is not
        there. ValueError if neither a figure nor a colour and an object is given.
        """
        labels = completed(labels)
        paper, first = self._things(labels, generator)
        _, second = self._things({**labels, "colour": labels["other_colour"]}, generator)
        rows = (labels["other_object"] >= 0).nonzero().flatten()
        first, second = self._placed(first, second, labels)
        return rasterise(paper, first, self.size, (rows, second[rows]))

    def film(self, labels: Mapping[str, Tensor], generator: torch.Generator, frames: int = 9) -> Tensor:
        """Returns clips (N, F, 3, H, W) in [0, 1] of labels (N,), `direction` among them; otherwise as `render`.

        The thing is smaller and moves on a straight line at constant speed through the middle of the picture.
        """
        unit, labels = self.size / 64, completed(labels)
        paper, things = self._things(labels, generator)
        path = torch.linspace(-0.5, 0.5, frames)[:, None] * self.travel * unit  # (F, 1)
        heading = torch.tensor(HEADINGS[1:])[labels["direction"]]
        centre = things.centre[:, None] + path * heading[:, None]  # (N, F, 2)
        still = things[torch.arange(len(paper)).repeat_interleave(frames)]
        moving = replace(still, centre=centre.flatten(0, 1), radius=0.74 * still.radius)
        images = rasterise(paper.repeat_interleave(frames, 0), moving, self.size)
        return images.unflatten(0, (-1, frames))

    def renders(
        self, rows: Sequence[Mapping[str, str]], generator: torch.Generator, frames: int | None = None
    ) -> Tensor:
        """Returns a picture, or a clip of `frames`, of each row's labels.

        Of labels that a row leaves open, colour, object, background and direction are drawn evenly; others are default.
        """
        given = {
            kind: torch.tensor([names.index(name) if (name := row.get(kind)) in names else -1 for row in rows])
            for kind, names in self.names.items()
        }
        labels = {kind: given[kind] for kind in ("figure", "other_colour", "other_object")}
        labels |= {kind: given[kind].clamp(min=0) for kind in DEFAULTS}
        for kind in ("colour", "object", "background", "direction"):
            drawn = torch.randint(len(self.names[kind]), (len(rows),), generator=generator)
            labels[kind] = torch.where(given[kind] < 0, drawn, given[kind])
        for style in range(len(STYLES)):
            fit = combinations.backgrounds(style)
            unfit = (labels["style"] == style) & ~torch.isin(labels["background"], torch.tensor(fit))
            labels["background"] = torch.where(unfit, fit[0], labels["background"])
        for kind in ("colour", "object"):
            labels[kind] = torch.where(labels["figure"] < 0, labels[kind], -1)
        return self.render(labels, generator) if frames is None else self.film(labels, generator, frames)

    def _pick(self, n: int, generator: torch.Generator, exclude: Exclude, *, clips: bool) -> dict[str, Tensor]:
        """Labels of n pictures or clips."""
        concepts = (exclude,) if isinstance(exclude, str) else tuple(exclude or ())
        ways = [way for way in DIRECTIONS if way not in concepts]
        if not ways:
            raise ValueError(f"no direction is left to move in without {', '.join(concepts)}")
        still = tuple(concept for concept in concepts if concept not in ("up", "down"))
        rows = combinations.table(self.figures, self.pairs, (*self.withheld, *still), clips)
        columns = combinations.pick(*rows, n, generator).unbind(1)
        labels = dict(zip(LABELS, columns, strict=True))
        if clips:
            options = torch.tensor([DIRECTIONS.index(way) for way in ways])
            labels["direction"] = options[torch.randint(len(ways), (n,), generator=generator)]
        return labels

    def _things(self, labels: Mapping[str, Tensor], generator: torch.Generator) -> tuple[Tensor, Things]:
        """The colours of N backgrounds (N, 3), and the things in the middle of them."""
        n, unit = len(labels["figure"]), self.size / 64

        def uniform(*shape: int) -> Tensor:
            return 2 * torch.rand(*shape, generator=generator) - 1

        paper = torch.tensor([*PAPERS.values()])[labels["background"]] + 0.02 * uniform(n, 1) + 0.008 * uniform(n, 3)
        ink = torch.tensor([*INKS.values()])[labels["colour"]] + 0.03 * uniform(n, 3)
        figure = labels["figure"]
        radius = torch.where(figure < 0, 19.0, 22.0) + self.spread * uniform(n)
        return paper.clamp(0, 1), Things(
            object=labels["object"],
            figure=figure,
            texture=labels["texture"],
            style=labels["style"],
            ink=ink.clamp(0, 1),
            centre=self.offset * unit * uniform(n, 2),
            radius=radius * unit,
            angle=self.rotation * torch.where(figure < 0, 1.0, 0.6) * uniform(n),
            tiles=torch.rand(n, TILES, TILES, generator=generator),
        )

    def _placed(self, first: Things, second: Things, labels: Mapping[str, Tensor]) -> tuple[Things, Things]:
        """The things at their places: smaller away from the middle, and smaller still if there are two."""
        unit, heading = self.size / 64, torch.tensor(HEADINGS)[labels["place"]]
        pair, middle = labels["other_object"] >= 0, labels["place"] == 0
        away = torch.where(pair, 15.5, 13.5)[:, None] * unit * heading
        alone = torch.where(middle, 1.0, torch.where(labels["figure"] < 0, 0.8, 0.72))
        shrink = torch.where(pair, 0.62, alone)
        first = replace(first, centre=first.centre + away, radius=shrink * first.radius)
        second = replace(
            second, centre=second.centre - away, radius=shrink * second.radius, object=labels["other_object"]
        )
        return first, second


def completed(labels: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Labels of every kind, as `Scenes.render` fills them in; ValueError as there."""
    if not labels.keys() & {"figure", "object"} or ("object" in labels) != ("colour" in labels):
        raise ValueError(f"a scene needs a figure, or a colour and an object, got {', '.join(labels) or 'nothing'}")
    n = len(next(iter(labels.values())))
    absent = ("colour", "object", "figure", "other_colour", "other_object")
    filled = {kind: torch.full((n,), -1 if kind in absent else 0) for kind in LABELS}
    return {**filled, **labels}


def named(labels: Mapping[str, Tensor]) -> list[dict[str, str]]:
    """The labels of each picture, kind -> name, without those that do not apply."""
    names = {**LABELS, "direction": DIRECTIONS}
    columns = {kind: values.tolist() for kind, values in labels.items()}
    rows = range(len(next(iter(columns.values()))))
    return [{kind: names[kind][column[i]] for kind, column in columns.items() if column[i] >= 0} for i in rows]
