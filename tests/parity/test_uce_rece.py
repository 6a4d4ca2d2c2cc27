"""UCE in its three forms and RECE's loop against the released codes' numbers."""

import pytest
import torch

from stages.methods.rece import RECE
from stages.methods.shared.text_inputs import paired_tokens
from stages.methods.uce import UCE
from stages.objectives import revived
from tests.parity.fixtures import Fixtures, below, close

FIXTURES = Fixtures("methods/uce_rece")
MANIFEST = FIXTURES.manifest
WEIGHTS = FIXTURES.tensors("model.safetensors", "w.")
EMBEDDINGS = FIXTURES.tensors("uce.safetensors", "emb.")
FORMS = {"regzero": "zero", "standard": "anchor"} | {
    f"surrogate_{name}": form for name, form in (("1st", "weights"), ("2nd", "identity"), ("both", "both"))
}


def cases(kind):
    return [case for case in MANIFEST["cases"] if case["kind"] == kind]


def rows(case, tokens):
    """The paired rows of a case's edits and the kept rows of its preserved prompts."""
    counts = MANIFEST["token_counts"]
    edits = []
    for edit, guide in zip(case["edit"], case["guide"], strict=True):
        length = EMBEDDINGS[edit].shape[1]
        ours, theirs = paired_tokens([0] * counts[edit], [0] * counts[guide], length, tokens)
        edits.append((EMBEDDINGS[edit][0, ours], EMBEDDINGS[guide][0, theirs]))
    every = {name: slice(None) if tokens == "range" else [counts[name] - 2] for name in case["preserve"]}
    return edits, [EMBEDDINGS[name][0, at] for name, at in every.items()]


def editor(case):
    return UCE(
        technique=case.get("technique", "replace"),
        erase=case["erase_scale"],
        preserve=case["preserve_scale"],
        ridge=case["lamb"],
    )


@pytest.mark.parametrize("kind", ["uce_last_token", "uce_token_range"])
def test_cross_attention(kind):
    assert cases(kind)
    for case in cases(kind):
        edits, kept = rows(
            case, kind.removeprefix("uce_").replace("last_token", "last").replace("token_range", "range")
        )
        expected = FIXTURES.tensors("uce.safetensors", f"{kind}.case{case['case']}.")
        assert expected
        for name, value in expected.items():
            close(editor(case).edit(WEIGHTS[name], edits, kept).float(), value, 1e-4)


def test_flux_with_the_bias_in_its_targets():
    stored = FIXTURES.tensors("uce_flux.safetensors")
    for case in cases("uce_flux"):
        for name in case["names"]:
            layer = name.removesuffix(".weight")
            weight, bias = stored[f"orig.{layer}.weight"], stored[f"orig.{layer}.bias"]
            read = next(
                rows
                for rows in (below(stored, "emb_pooled."), below(stored, "emb_seq_last."))
                if weight.shape[1] == next(iter(rows.values())).shape[-1]
            )
            edits = [(read[e], read[g]) for e, g in zip(case["edit"], case["guide"], strict=True)]
            kept = [read[name] for name in case["preserve"]]
            close(editor(case).edit(weight, edits, kept, bias).float(), stored[f"edited.{layer}.weight"], 2e-4)
            without = editor(case).edit(weight, edits, kept).float()
            assert (without - stored[f"edited.{layer}.weight"]).abs().max() > 1e-3


def start(prefix):
    return FIXTURES.tensors("rece.safetensors", f"{prefix}start.")


def test_revived_embeddings():
    stored = FIXTURES.tensors("rece.safetensors", "fp64.")
    edited = [value.double() for value in start("fp64.").values()]
    original = [WEIGHTS[name].double() for name in start("fp64.")]
    found = [name for name in stored if name.startswith("adv_")]
    assert found
    for name in found:
        kind, _, strength = name.removeprefix("adv_").partition(".")
        anchor = EMBEDDINGS["guide_a"].double() if kind == "standard" else None
        ours = revived(edited, original, EMBEDDINGS["edit_a"], float(strength), FORMS[kind], anchor)
        close(ours.float(), stored[name], 1e-4 if kind == "surrogate_1st" else 1e-5)


def test_the_loop():
    settings = MANIFEST["rece"]
    method = RECE(
        rounds=settings["loop_epochs"],
        strength=settings["loop_r"],
        ridge=settings["lamb"],
        preserve=settings["preserve_scale"],
    )
    original = {name: value.double() for name, value in WEIGHTS.items() if name in start("fp64.")}
    weights = {name: value.double() for name, value in start("fp64.").items()}
    space = EMBEDDINGS["space"][0]
    edits = dict.fromkeys(weights, [(EMBEDDINGS["edit_a"][0], space)])
    kept = dict.fromkeys(weights, [space])
    for epoch in range(settings["loop_epochs"]):
        stored = FIXTURES.tensors("rece.safetensors", f"fp64.loop.epoch{epoch}.")
        found = method.search(weights, original, edits)
        close(next(iter(found.values()))[0][0].float(), stored.pop("adv")[0], 5e-5)
        if settings["erase_scale"] == UCE().erase:
            weights = method.round(weights, original, edits, kept)
        else:
            step = editor(settings)
            weights = {name: step.edit(value, found[name], kept[name]) for name, value in weights.items()}
        for name, value in stored.items():
            close(weights[name].float(), value, 5e-5)


def test_the_start_of_the_loop_is_an_edit_towards_the_empty_prompt():
    case = {"edit": ["edit_a"], "guide": ["space"], "preserve": ["empty"]}
    edits, kept = rows(case, "range")
    for name, value in start("fp64.").items():
        close(UCE(ridge=0.5).edit(WEIGHTS[name], edits, kept).float(), value)
    assert all(torch.isfinite(value).all() for value in start("").values())
