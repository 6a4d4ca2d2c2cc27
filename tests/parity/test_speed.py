"""SPEED's null-space edit against the released code's numbers, from embeddings and weights alone."""

import pytest
import torch

from stages.methods.speed import SPEED, moments
from stages.objectives.null_space import above_mean, null_projector, shift, smallest_direction
from tests.parity.fixtures import Fixtures, close

FIXTURES = Fixtures("methods/speed")
MANIFEST = FIXTURES.manifest
CASES = {case["name"]: case for case in MANIFEST["cases"]}
INPUTS = FIXTURES.tensors("inputs.safetensors")
PROMPTS = {prompt["text"]: prompt for prompt in MANIFEST["prompts"]}
TOLERANCE = MANIFEST["tolerance"]["float64 implementation against float32 keys"]
SUMS = TOLERANCE["covariance, prior_shift_weight, shift_norm, target_target, anchor_target"]
EXACT = MANIFEST["tolerance"]["float64 implementation against fp64.*"]


def rows(case, text):
    """The rows of a prompt that the case uses."""
    embedding, last = INPUTS[PROMPTS[text]["tensor"]], PROMPTS[text]["tokens"] - 2
    return embedding[1:] if case["token_rows"].startswith("1..") else embedding[last : last + 1]


def method(case):
    given = case["args"]
    return SPEED(
        projections=tuple({"K": "key", "V": "value"}[letter] for letter in given["params"]),
        rounds=given["aug_num"],
        filtered=not given["disable_filter"],
        threshold=given["threshold"],
        scale=given["retain_scale"],
        soft=given["lamb"],
        chunk=given["chunk_size"],
    )


def retained(case, stored):
    return torch.cat([rows(case, text) for text in case["retain_used"]])[stored["order"]]


@pytest.mark.parametrize("name", CASES)
def test_the_whole_edit(name):
    case = CASES[name]
    stored = FIXTURES.tensors(case["file"])
    edits = [(rows(case, c), rows(case, g)) for c, g in zip(case["targets"], case["anchors"], strict=True)]
    keep = retained(case, stored)
    assert torch.equal(keep, stored["retain"])
    for value, key in zip(moments(edits), ("target_target", "anchor_target"), strict=True):
        close(
            value.float(),
            stored[key],
            SUMS,
        )
    empty = INPUTS[PROMPTS[""]["tensor"]]
    stays = torch.cat([empty[:1], stored["centres"]]).T
    close(stays, stored["invariant"])
    assert case["layers"]
    for layer in case["layers"]:
        path = layer["layer"]
        weight = INPUTS[f"w.{path}"]
        noise = stored.get(f"{path}.noise", torch.zeros(0, keep.shape[1]))
        change = method(case).change(weight, edits, keep, stays, noise)
        exact = stored[f"fp64.{path}.delta"]
        assert (change - exact).norm() <= EXACT * exact.norm()
        new = stored[f"fp64.{path}.new"]
        assert (weight.double() + change - new).norm() <= EXACT * new.norm()
        close((weight + change).float(), stored[f"{path}.new"], TOLERANCE["new"])


@pytest.mark.parametrize("name", CASES)
def test_every_step_of_it(name):
    case = CASES[name]
    stored = FIXTURES.tensors(case["file"])
    speed, keep = method(case), retained(case, stored)
    second = stored["target_target"], stored["anchor_target"]
    for layer in case["layers"]:
        path = layer["layer"]
        weight = INPUTS[f"w.{path}"]
        felt = shift(weight, *second)
        close(felt.float(), stored[f"{path}.prior_shift_weight"], 2e-5)
        close((keep.double() @ felt.T).norm(dim=1).float(), stored[f"{path}.shift_norm"], 2e-5)
        mask = above_mean(keep, felt) if speed.filtered and speed.rounds else torch.ones(len(keep), dtype=torch.bool)
        assert torch.equal(mask, stored[f"{path}.keep_retain"]) and int(mask.sum()) == layer["kept_retain"]
        spanning = speed.retained(weight, second, keep, stored.get(f"{path}.noise"))
        assert len(spanning) == layer["valid_num"]
        if speed.rounds:
            own, theirs = smallest_direction(weight), stored[f"{path}.smallest_direction"].double()
            assert (torch.outer(own, own) - torch.outer(theirs, theirs)).abs().max() < 1e-4
            close(spanning[int(mask.sum()) :].float(), stored[f"{path}.augmented"], 2e-5)
        close((spanning.T @ spanning / len(spanning)).float(), stored[f"{path}.covariance"], 2e-5)
        projector = null_projector(spanning, speed.threshold)
        assert (projector - stored[f"fp64.{path}.projector"]).abs().max() < 1e-5
        close(projector.float(), stored[f"{path}.projector"], TOLERANCE["projector"])
