"""Every file in params/methods/ on a tiny backbone: it fits, attaches, detaches, saves, loads and repeats."""

import dataclasses

import pytest
import torch

from stages.interventions import load, save
from stages.methods import load_method
from stages.params import names

SMALL = {"steps": 2, "batch": 2, "samples": 4}  # so that a fit takes a moment
CALL = {"seeds": [1, 2], "steps": 3, "guidance": 3.0}


def small(name, backbone="tiny"):
    """The method of that file with everything that costs time cut down."""
    method = load_method(name, backbone)
    quick = getattr(method, "quick", dict)()
    have = {field.name for field in dataclasses.fields(method)}
    return dataclasses.replace(method, **{k: v for k, v in SMALL.items() if k in have} | quick)


@pytest.mark.parametrize("name", names("methods"))
def test_method(name, backbone, concept, tmp_path):
    method = small(name)
    condition = backbone.encode(["a red circle", "a blue square"])
    plain = backbone.sample(condition, **CALL)
    try:
        intervention = method.fit(backbone, concept, seed=0)
    except ValueError as refusal:
        assert "\n" not in str(refusal) and len(str(refusal)) > 20
        assert torch.equal(backbone.sample(condition, **CALL), plain)
        return
    assert torch.equal(backbone.sample(condition, **CALL), plain)
    with intervention.attach(backbone):
        edited = backbone.sample(backbone.encode(condition.prompts), **CALL)
    assert torch.isfinite(edited).all()
    assert torch.equal(backbone.sample(condition, **CALL), plain)
    save(intervention, tmp_path)
    with load(tmp_path).attach(backbone):
        assert torch.equal(backbone.sample(backbone.encode(condition.prompts), **CALL), edited)
    again = method.fit(backbone, concept, seed=0)
    assert again.spec() == intervention.spec()
    for key, value in intervention.tensors().items():
        assert torch.equal(value, again.tensors()[key]), key
