"""Every file in params/methods/ on a tiny U-Net: it fits, attaches, detaches, saves, loads and repeats, or is refused.

A file is found by its name. One whose method cannot work on this network is listed in REFUSED with what it says.
"""

import dataclasses

import pytest
import torch

from stages.interventions import load, save
from stages.methods import load_method
from stages.params import names

SMALL = {"steps": 2, "batch": 2, "samples": 4}  # so that a fit takes a moment
CALL = {"seeds": [1, 2], "steps": 3, "guidance": 3.0}
NO_FLOW, NO_BITS = "follows the velocity of a flow, which tiny does not predict", "tiny predicts no bits"
REFUSED = {
    "conditioned_transport_paper": "no layer .* in tiny",  # of Infinity 2B, which has 32
    "flowedit": NO_FLOW,
    "flowedit_paper": NO_FLOW,
    "minimalist_released": NO_FLOW,  # its target is made by FlowEdit
    "oracle": "tiny is a real checkpoint",  # and not trained here, so that nothing can be left out of its training
    "prototype_steering_text": "layer 1 must be 0 to 0",  # the encoder has one layer
    "receler_paper": "no attention has 16 x 16 tokens",  # as Stable Diffusion has
    "s_vare": NO_BITS,
    "s_vare_paper": NO_BITS,
}


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
    if name in REFUSED:
        with pytest.raises(ValueError, match=REFUSED[name]) as refusal:
            method.fit(backbone, concept, seed=0)
        assert "\n" not in str(refusal.value)
        assert torch.equal(backbone.sample(condition, **CALL), plain)
        return
    intervention = method.fit(backbone, concept, seed=0)
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


def test_only_methods_that_exist_are_listed_as_refused():
    assert set(REFUSED) <= set(names("methods"))
