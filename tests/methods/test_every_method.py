"""Every file in params/methods/ on a tiny U-Net and a tiny Infinity: it fits, attaches, detaches, saves, loads and
repeats, or is refused.

A file is found by its name. One whose method cannot work on a network is listed in REFUSED with what it says.
"""

from dataclasses import replace

import pytest
import torch

from stages.interventions import load, save
from stages.params import method_params, names
from stages.params.kept import enough, kept_states, most
from stages.params.layers import untuned
from tests import ROOT
from tests.backbones import tiny_infinity
from tests.methods.cut_down import small
from tests.tiny import unet

CALL = {"seeds": [1, 2], "steps": 4, "guidance": 3.0}
NO_FLOW = "follows the velocity of a flow, which tiny does not predict"
NO_RUN = "tiny has no denoising run to stop half way"
NO_FINAL = "tiny has no forward process"
NO_BITS = "tiny predicts no bits"
FAR = "layers: tiny has .* there, numbered from 0, got"  # layers of Infinity 2B, which has 32
REFUSED = {
    "tiny": {  # of which nothing is known: the methods' own settings
        "conditioned_transport": FAR,
        "flowedit": NO_FLOW,
        "minimalist_released": NO_FLOW,  # its target is made by FlowEdit
        "oracle": "tiny is a real checkpoint",  # and not trained here, so that nothing can be left out of its training
        "prototype_steering_text": "layer 1 must be 0 to 0",  # the encoder has one layer
        "receler": "no attention has 16 x 16 tokens",  # as Stable Diffusion has
        "s_vare": NO_BITS,
    },
    "infinity-shapes": {  # the tuned ones
        "circuit_breaker_documented": "tiny has no block 3",  # the backbone of that name has four
        "esd_x_released": NO_RUN,
        "minimalist_binary": NO_RUN,  # the masks that are fitted within are those of the tiny network
        "minimalist_released": NO_RUN,
        "oracle": "tiny is a real checkpoint",
        "prototype_steering": "layer 1 must be 0 to 0",
        "prototype_steering_text": "layer 1 must be 0 to 0",
    },
}


@pytest.fixture(scope="module")
def tiny():
    """The tiny network whose methods are those of a backbone of that name."""
    return {"tiny": unet(), "infinity-shapes": tiny_infinity.make()}


def states_asked_for(backbone, monkeypatch):
    """The states that whatever follows gathers."""
    asked, own = [], backbone.gather

    def gather(prompts, seed, states="all", into=None):
        asked.append(states)
        own(prompts, seed, states, into)

    monkeypatch.setattr(backbone, "gather", gather)
    return asked


@pytest.mark.parametrize("where", REFUSED)
@pytest.mark.parametrize("name", names("methods"))
def test_a_method(name, where, tiny, concept, tmp_path, monkeypatch):
    if untuned("methods", name, where):
        with pytest.raises(ValueError, match=rf"{name} is tuned on shapes \((?![^)]*infinity)"):
            small(name, where)
        return
    method, backbone = small(name, where), tiny[where]
    if getattr(method, "data", "") == "data/{concept}":  # pictures of the concept, which red has none of
        method = replace(method, data=str(ROOT / "data" / "yellow_cross"))
    condition = backbone.encode(["a red circle", "a blue square"])
    plain = backbone.sample(condition, **CALL)
    if name in REFUSED[where]:
        with pytest.raises(ValueError, match=REFUSED[where][name]) as refusal:
            method.fit(backbone, concept, seed=0)
        assert "\n" not in str(refusal.value)
        assert torch.equal(backbone.sample(condition, **CALL), plain)
        return
    asked = states_asked_for(backbone, monkeypatch)
    intervention = method.fit(backbone, concept, seed=0)
    declared = kept_states(method_params(name, where))
    assert not asked or (declared is not None and enough(declared, most(asked))), "READS of its class"
    assert asked or declared is None or "minimalist" in name  # whose runs are its own if it samples other steps
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
    assert all(set(refused) <= set(names("methods")) for refused in REFUSED.values())
