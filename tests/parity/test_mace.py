"""MACE's refinement and fusion against the released code's numbers, from embeddings, weights and LoRAs alone."""

import pytest
import torch

from stages.methods.mace import fuse_weights, refine_weight
from stages.methods.shared.text_inputs import paired_tokens
from tests.parity.fixtures import Fixtures, close

FIXTURES = Fixtures("methods/mace_fusion")
MANIFEST = FIXTURES.manifest
INPUTS = FIXTURES.tensors("inputs.safetensors")
EMBEDDINGS = {prompt["text"]: INPUTS[prompt["tensor"]] for prompt in MANIFEST["prompts"]}
COUNTS = {prompt["text"]: prompt["tokens"] for prompt in MANIFEST["prompts"]}
EXACT = MANIFEST["tolerance"]["float64 implementation against fp64.*"]
NEAR = MANIFEST["tolerance"]["float64 implementation against float32 keys"]
CASES = {case["name"]: case for case in MANIFEST["cases"]}


def tokens(text):
    """One number for each token of a prompt: the begin token, its words, the end token."""
    ids = [0, *(1 + hash(word) % 2**40 for word in text.split()), -1]
    assert len(ids) == COUNTS[text]
    return ids


def around(pair):
    return paired_tokens(tokens(pair["old"]), tokens(pair["new"]), MANIFEST["sizes"]["L"], "around")


def spread(ranges):
    return [position for first, last in ranges for position in range(first, last + 1)]


def edits(case):
    chosen = [pair for pair in MANIFEST["pairs"] if pair["concept"] in case["settings"]["concepts"]]
    for pair in chosen:
        ours, theirs = around(pair)
        if case["settings"]["all_words"]:
            ours = theirs = slice(None)
        yield EMBEDDINGS[pair["old"]][ours], EMBEDDINGS[pair["new"]][theirs]


def kept(case):
    share, settings = case["effective_preserve_scale"], case["settings"]
    groups = {"prior": 1.0, "domain": settings["preserve_weight"]}
    wanted = [(name, weight) for name, weight in groups.items() if settings[name]]
    return [(EMBEDDINGS[text], share * weight) for name, weight in wanted for text in MANIFEST["preserve"][name]]


def taught(case, name):
    for concept in case["settings"]["concepts"]:
        lora = f"lora.{concept}.{name}"
        change = INPUTS[f"{lora}.up"].double() @ INPUTS[f"{lora}.down"].double()
        olds = [pair["old"] for pair in MANIFEST["pairs"] if pair["concept"] == concept]
        yield torch.cat([EMBEDDINGS[old] for old in olds]), INPUTS[f"start.{name}"].double() + change


@pytest.mark.parametrize("pair", MANIFEST["pairs"], ids=lambda pair: pair["old"])
def test_the_words_around_a_concept(pair):
    assert around(pair) == (spread(pair["old_rows"]), spread(pair["new_rows"]))


@pytest.mark.parametrize("name", CASES)
def test_closed_forms(name):
    case = CASES[name]
    refinement = case["stage"] == "refinement"
    stored = FIXTURES.tensors("refined.safetensors" if refinement else "fused.safetensors")
    assert MANIFEST["layer_order"]
    for layer in MANIFEST["layer_order"]:
        original, ridge = INPUTS[f"w.{layer}"], case["settings"]["lamb"]
        if refinement:
            new = refine_weight(original, list(edits(case)), kept(case), ridge)
        else:
            new = fuse_weights(INPUTS[f"start.{layer}"], list(taught(case, layer)), original, kept(case), ridge)
        exact = stored[f"fp64.{name}.{layer}"]
        assert (new - exact).norm() <= EXACT * exact.norm(), layer
        close(new.float(), stored[f"{name}.{layer}"], NEAR)
