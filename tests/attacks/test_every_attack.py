"""Every file of params/attacks on a tiny backbone: built, run twice alike, and gone without a trace.

A file is found by its name. What costs time in it is cut down.
"""

import dataclasses

import pytest
import torch

from stages.attacks.base import Attempt, load_attack
from stages.params import names

SMALL = {
    **{"attempts": 1, "population": 6, "generations": 2, "length": 3, "tokens": 2, "samples": 1, "iterations": 1},
    **{"steps": 2, "batch": 2, "accumulate": 1, "images": 2, "initialiser": "shape"},
}
NOT_NUMBERS = ("sampler_shift", "steps")  # there steps are factors
CALL = {"seeds": [1, 2], "steps": 3, "guidance": 3.0}


@pytest.mark.parametrize("name", names("attacks"))
def test_an_attack_finds_prompts_and_leaves_the_backbone_as_it_was(name, backbone, concept):
    attack = load_attack(name, "sd-shapes")
    have = {field.name for field in dataclasses.fields(attack)}
    small = {key: value for key, value in SMALL.items() if key in have and (name, key) != NOT_NUMBERS}
    attack = dataclasses.replace(attack, **small)
    if name.startswith("closed_gate"):
        with pytest.raises(ValueError, match="Identity has none"):
            attack.search(backbone, concept, seed=0)
        return
    condition = backbone.encode(["a red circle", "a blue square"])
    plain = backbone.sample(condition, **CALL)
    attempts = [attack.search(backbone, concept, seed=0) for _ in range(2)]
    assert isinstance(attempts[0], Attempt) and attempts[0].prompts and all(one.start for one in attempts[0].found)
    assert attempts[0].prompts == attempts[1].prompts and attempts[0].notes == attempts[1].notes
    for key, value in attempts[0].intervention.tensors().items():
        assert torch.equal(value, attempts[1].intervention.tensors()[key]), key
    assert torch.equal(backbone.sample(condition, **CALL), plain)
    with attempts[0].intervention.attach(backbone):
        asked = list(attempts[0].prompts[:3])
        found = backbone.sample(backbone.encode(asked), seeds=list(range(len(asked))), steps=2, guidance=3.0)
        assert torch.isfinite(found).all()
