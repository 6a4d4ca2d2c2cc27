"""The figures of a model card against hand values: what counts as right, and what is not asked."""

from types import SimpleNamespace

import torch

from stages.metrics.figures import figures, rows_of
from tests import ROOT


class Answers:
    """Reads the number in a picture's first pixel: the answer of that place."""

    names = ({"colour": "red", "shape": "circle"}, {"colour": "blue", "shape": "circle"})

    def look(self, images):
        answers = [self.names[round(float(image[0, 0, 0]))] for image in images]
        return SimpleNamespace(
            labels=lambda: ("colour", "shape"), named=lambda kind: [answer[kind] for answer in answers]
        )


class Drawer:
    """Draws a one for prompts that say so."""

    name, settings = "it", SimpleNamespace(batch=2, steps=1, guidance=1.0)

    def encode(self, prompts):
        return prompts

    def sample(self, condition, *, seeds, steps, guidance):
        return torch.stack([torch.full((3, 2, 2), float("one" in prompt)) for prompt in condition])


def row(prompt, seed, **kinds):
    return {"prompt": prompt, "seed": seed, "colour": "", "shape": "", "size": "big"} | kinds


def test_a_kind_counts_where_a_prompt_names_it():
    rows = [
        row("zero", 1, colour="red", shape="circle"),
        row("zero", 2, colour="red", shape="square"),
        row("one", 3, colour="red"),
        row("one", 4, colour="blue"),
        row("one", 5, shape="circle"),
    ]
    colour, shape = figures(Drawer(), Answers(), rows, ("colour", "shape", "size"))
    assert (colour["kind"], colour["rate"], colour["n"]) == ("colour", 0.75, 4)
    assert (shape["kind"], round(shape["rate"], 6), shape["n"]) == ("shape", 0.666667, 3)
    assert 0 <= colour["low"] < colour["rate"] < colour["high"] <= 1


def test_rows_are_spread_and_no_two_start_from_the_same_noise():
    rows, kinds = rows_of(str(ROOT / "data/shapes_colors.csv"), 300)
    assert {"colour", "shape"} <= set(kinds)
    assert len({one["seed"] for one in rows}) == len(rows) == 300
    assert len({one["prompt"] for one in rows}) > 100
    few, _ = rows_of(str(ROOT / "data/shapes_colors.csv"), 8)
    assert len({one["colour"] for one in few}) > 2
