"""SPEED: what stays stays, the concept moves to its twin, and a hundred concepts are one solution."""

import time
from dataclasses import replace

import pytest
import torch

from stages.methods.rece import RECE
from stages.methods.shared.text_inputs import text_inputs
from stages.methods.speed import SPEED, clustered, invariant
from stages.methods.uce import UCE
from stages.objectives.null_space import above_mean, null_projector, null_space_change, smallest_direction
from stages.params.concept import Concept
from tests.backbones.families import FAMILIES

DRAWS = torch.Generator().manual_seed(0)
COLOURS = Concept(
    name="colours",
    prompts=("a {} circle", "a photo of a {} shape"),
    neutral=("a circle", "a photo of a shape"),
    retain=("a small triangle", "a picture of a cross", "a photo of a square", "a drawing of a circle"),
    members=("red", "green", "blue"),
)


def normal(*shape):
    return torch.randn(shape, generator=DRAWS, dtype=torch.float64)


def test_the_change_is_the_best_that_keeps_rows_and_columns():
    weight, rows, stays = normal(6, 12), normal(5, 12), normal(12, 2)
    targets, anchors = normal(3, 12), normal(3, 12)
    second = targets.T @ targets / 3, anchors.T @ targets / 3
    projector = null_projector(rows, 1e-9)
    change = null_space_change(weight, second, projector, stays, 0.5)
    assert (change @ rows.T).abs().max() < 1e-9 and (change @ stays).abs().max() < 1e-9

    def cost(value):
        wrong = (weight + value) @ targets.T - weight @ anchors.T
        return wrong.square().sum() / 3 + 0.5 * value.square().sum()

    basis = torch.linalg.svd(torch.cat([rows, stays.T]))[2][7:]
    for _ in range(20):
        other = 1e-3 * normal(6, len(basis)) @ basis
        assert cost(change + other) > cost(change)
    assert cost(change) < cost(torch.zeros_like(change))


def test_columns_that_must_stay_twice_change_nothing():
    weight, rows, stays = normal(6, 12), normal(5, 12), normal(12, 2)
    second = (s := normal(4, 12)).T @ s, normal(12, 12)
    once = null_space_change(weight, second, null_projector(rows, 1e-9), stays, 0.5)
    twice = null_space_change(weight, second, null_projector(rows, 1e-9), torch.cat([stays, stays], 1), 0.5)
    torch.testing.assert_close(once, twice)


def test_variants_differ_along_the_direction_that_the_weight_reads_least():
    weight, rows, felt = normal(20, 12), normal(11, 12), normal(20, 12)
    method, draws = SPEED(rounds=3, chunk=9), torch.Generator().manual_seed(1)
    kept = torch.cat(list(method.variants(weight, felt, rows, draws)))
    direction = smallest_direction(weight)
    flat = rows - torch.outer(rows @ direction, direction)
    away = kept - torch.outer(kept @ direction, direction)
    assert torch.cdist(away, flat).min(1).values.max() < 1e-6 and 0 < len(kept) < 33
    assert above_mean(rows, felt).any() and not above_mean(rows, felt).all()


def test_centres_are_means_of_what_is_nearest_to_them():
    groups = torch.cat([normal(8, 4) * 0.01 + shift for shift in (-3.0, 0.0, 5.0)])
    centres = clustered(groups, 3, torch.Generator().manual_seed(2))
    for row in clustered(groups, 1, DRAWS):
        torch.testing.assert_close(row, groups.mean(0))
    for row, wanted in zip(centres[centres[:, 0].argsort()], (-3.0, 0.0, 5.0), strict=False):
        assert (row - wanted).abs().max() < 3.1
    assert invariant(groups, 3, DRAWS).shape[0] == 4 and invariant(groups[:1], 3, DRAWS).shape == (4, 1)
    assert torch.equal(invariant(groups, 0, DRAWS), groups[:1].T)


@pytest.mark.parametrize("family", ["unet", "sd3", "pixart", "cogvideox-2b"])
def test_it_moves_the_concept_and_leaves_the_rest(family):
    backbone = FAMILIES[family].make()
    wide = replace(COLOURS, retain=("a small triangle",))
    method = SPEED(rounds=2, threshold=1e-6, scale=1e-3)
    weights = method.fit(backbone, wide, seed=0)
    names = [name for name in weights.names if text_inputs(backbone, [name], [""])[name][0].ndim == 2]
    assert names and all(torch.isfinite(value).all() for value in weights.values)
    again = method.fit(backbone, wide, seed=0)
    assert all(torch.equal(a, b) for a, b in zip(weights.values, again.values, strict=True))
    new = dict(weights.items())
    for name in names:
        change = new[name] - backbone.addresses.parameter(name)
        (first,) = text_inputs(backbone, [name], [""])[name]
        assert (first[:1] @ change.T).abs().max() < 1e-3 * (first[:1] @ new[name].T).abs().max()
    assert any((new[name] - backbone.addresses.parameter(name)).abs().max() > 1e-6 for name in names)


def test_texts_that_name_the_concept_are_not_retained(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("a Red boat\nreds\ngreenish\n\nboat\n")
    assert SPEED(vocabulary=str(path))._texts(COLOURS) == ["greenish", "boat"]
    with pytest.raises(FileNotFoundError, match="nowhere.txt is missing: texts to retain, one a line"):
        SPEED(vocabulary="nowhere.txt")._texts(COLOURS)


@pytest.mark.parametrize("method", [UCE("aligned", ridge=0.01), RECE(1, tokens="aligned", target="neutral")])
def test_closed_forms_take_every_member_of_a_concept(backbone, method):
    weights = method.fit(backbone, COLOURS, seed=0)
    name = weights.names[0]
    new, own = dict(weights.items())[name], backbone.addresses.parameter(name)
    for prompt, neutral in COLOURS.pairs()[:3]:
        shown, twin = (text_inputs(backbone, [name], [text])[name][0] for text in (prompt, neutral))
        word, instead = shown[2], twin[1]  # the colour's token goes to that of the word before it
        assert (new @ word - own @ instead).norm() < 0.9 * (own @ word - own @ instead).norm(), prompt


def test_a_network_that_hands_its_condition_on_runs_on_the_first_batch_alone(backbone, monkeypatch):
    names, calls = backbone.addresses.readers(), []
    prompts = [f"a {colour} circle" for colour in ("red", "green", "blue", "white", "black", "cyan")]
    predict = backbone.predict
    monkeypatch.setattr(backbone, "predict", lambda *given, **options: calls.append(1) or predict(*given, **options))
    read = text_inputs(backbone, names, prompts)
    assert len(calls) == 1 and len(backbone.settings.batches(len(prompts))) == 2
    for name in names:
        for row, wanted in zip(read[name], backbone.encode(prompts).tensors["embeds"], strict=True):
            assert torch.equal(row, wanted)


def stable_diffusion(width, blocks):
    """Weights of cross-attention, random, of 16 blocks with these widths, and rows of `width` for 100 concepts."""
    weights = [normal(out, width).float() / width**0.5 for out in blocks for _ in ("key", "value")]
    edits = [(normal(1, width).float(), normal(1, width).float()) for _ in range(100)]
    return weights, edits, [normal(1, width).float() for _ in range(60 if width < 100 else 600)]


SIZES = {
    "small": (48, [20, 40, 80]),
    "stable diffusion 1": (768, [320] * 5 + [640] * 5 + [1280] * 6),
}


@pytest.mark.parametrize("size", ["small", pytest.param("stable diffusion 1", marks=pytest.mark.slow)])
@pytest.mark.parametrize("method", [UCE(), SPEED(threshold=0.3, scale=0.05, filtered=False)])
def test_a_hundred_concepts_at_once(size, method):
    weights, edits, kept = stable_diffusion(*SIZES[size])
    begin = time.process_time()
    for i, weight in enumerate(weights):
        if isinstance(method, UCE):
            new = method.edit(weight, edits, kept)
        else:
            stays = invariant(torch.cat(kept[:8]), 3, torch.Generator().manual_seed(i))
            new = weight + method.change(weight, edits, torch.cat(kept), stays, torch.Generator().manual_seed(i))
        before = torch.cat([(c - g) @ weight.T for c, g in edits]).norm()
        after = torch.cat([c.double() @ new.T - g.double() @ weight.double().T for c, g in edits]).norm()
        assert after < (0.999 if isinstance(method, SPEED) else 0.9) * before
    assert time.process_time() - begin < 120  # seconds of one core: a minute on two
