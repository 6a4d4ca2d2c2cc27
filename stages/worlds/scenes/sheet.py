"""A contact sheet of the world of scenes: every kind of concept in rows, with captions, for people to look at."""

import argparse
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from stages import seeds
from stages.launch.cli import entry
from stages.seeds import Purpose
from stages.store.pictures import to_pixels
from stages.worlds.scenes.grammar import Said, around
from stages.worlds.scenes.labels import (
    BACKGROUNDS,
    COLOURS,
    DEFAULTS,
    FIGURES,
    GROUNDS,
    LABELS,
    OBJECTS,
    STYLES,
    TEXTURES,
    index,
)
from stages.worlds.scenes.world import Scenes

COLUMNS, TILE, TEXT, MARGIN = 8, 128, 34, 8  # pictures in a row; pixels of a picture, of its caption, between them
Scene = dict[str, str]  # kind -> name
Row = list[tuple[Tensor, str]]  # pictures (3, H, W) and captions


@entry
def main(argv: Sequence[str] | None = None) -> int:
    """Writes a PNG with pictures of every label."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", required=True)
    args = parser.parse_args(argv)
    draw_sheet(args.seed).save(Path(args.out))
    return 0


def draw_sheet(seed: int) -> Image.Image:
    """The sheet: a row for each of `scenes`, two of a fresh sample, and the frames of two clips."""
    world = Scenes()
    rows = [_rendered(world, row, seed) for row in scenes()]
    batch = world.sample(2 * COLUMNS, seed)
    fresh = list(zip(batch.images, batch.captions, strict=True))
    rows += [fresh[:COLUMNS], fresh[COLUMNS:]]
    clips = world.clips(2, seed, frames=COLUMNS)
    rows += [
        [(frame, caption if i == 0 else "") for i, frame in enumerate(clip)]
        for clip, caption in zip(clips.images, clips.captions, strict=True)
    ]
    return _tiled(rows)


def scenes() -> list[list[Scene]]:
    """Rows of labels that show every name of every kind."""
    star = {"colour": "blue", "object": "star", "background": "light"}
    return [
        [star | {"colour": name, "object": "circle"} for name in COLOURS],
        [star | {"object": name, "colour": colour} for name, colour in zip(OBJECTS, COLOURS, strict=True)],
        [
            star | {"texture": name, "object": thing, "colour": colour}
            for name in TEXTURES[1:]
            for thing, colour in (("heart", "red"), ("star", "green"), ("square", "pink"), ("circle", "purple"))
        ],
        *(
            [
                star
                | {"style": name, "object": thing, "colour": COLOURS[(3 * i) % 8]}
                | {"background": (grounds := GROUNDS.get(name, BACKGROUNDS))[i % len(grounds)]}
                for i, thing in enumerate(OBJECTS)
            ]
            for name in STYLES[1:]
        ),
        [{"figure": name, "background": BACKGROUNDS[i % 3]} for i, name in enumerate(FIGURES)],
        [star | {"place": name, "colour": "red"} for name in ("left", "right", "above", "below")]
        + [{"figure": "tivvy", "place": "left", "background": name} for name in ("dark", "sandy")]
        + [star | {"background": name, "colour": "yellow"} for name in ("dark", "sandy")],
        [
            star
            | {"place": place, "background": ground, "object": "circle", "colour": "red"}
            | {"other_object": "square", "other_colour": "green"}
            for ground in ("light", "dark")
            for place in ("left", "right", "above", "below")
        ],
    ]


def described(scene: Scene) -> str:
    """The caption that says all of a scene's labels but the defaults and the background."""
    said = around({kind: scene[kind] for kind in DEFAULTS if kind in scene and scene[kind] != DEFAULTS[kind]})
    if "figure" in scene:
        return str(replace(said, noun=scene["figure"]))
    second = scene.get("other_object")
    other = Said(colour=scene["other_colour"], noun=second) if second else None
    return str(replace(said, colour=scene["colour"], noun=scene["object"], other=other))


def _rendered(world: Scenes, row: Sequence[Scene], seed: int) -> Row:
    pictures = []
    for number, scene in enumerate(row):
        labels = {kind: torch.tensor([index(kind, name)]) for kind, name in scene.items() if kind in LABELS}
        pictures.append(world.render(labels, seeds.generator(Purpose.WORLD, seed, number))[0])
    return list(zip(pictures, map(described, row), strict=True))


def _tiled(rows: Sequence[Row]) -> Image.Image:
    width, height = TILE + MARGIN, TILE + TEXT + MARGIN
    sheet = Image.new("RGB", (COLUMNS * width + MARGIN, len(rows) * height + MARGIN), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=11)
    for y, row in enumerate(rows):
        for x, (picture, caption) in enumerate(row):
            corner = x * width + MARGIN, y * height + MARGIN
            tile = Image.fromarray(to_pixels(picture)).resize((TILE, TILE), Image.Resampling.NEAREST)
            sheet.paste(tile, corner)
            lines = "\n".join(textwrap.wrap(caption, 24)[:3])
            pen.multiline_text((corner[0], corner[1] + TILE + 2), lines, fill="black", font=font, spacing=0)
    return sheet


if __name__ == "__main__":
    sys.exit(main())
