"""Steering methods in the text encoders: a location like any other, in which padding is left alone."""

import pytest
import torch

from stages.interventions import load, save
from stages.interventions.maps import Transport
from stages.interventions.steering import Steering, role_strengths
from stages.methods.activation_transport import ActivationTransport
from stages.methods.casteer import CASteer
from stages.methods.conditioned_transport import ConditionedTransport
from stages.methods.mean_difference import MeanDifference
from stages.sites import Moment

METHODS = {
    "casteer": CASteer(samples=4, location="text", mode="CONDITIONAL"),
    "mean": MeanDifference(samples=4, location="text", layers=(0,)),
    "linear": ActivationTransport(samples=4, layers=("text",), support=None),
    "network": ConditionedTransport(samples=4, steps=3, batch=4, hidden=8, gate="none", location="text"),
}


@pytest.mark.parametrize("name", METHODS)
def test_it_changes_what_is_encoded_and_survives_its_file(backbone, concept, tmp_path, name):
    steering = METHODS[name].fit(backbone, concept, seed=0)
    assert {site.stream for site, _ in steering.maps} == {"encoder"}
    plain = backbone.encode(["a red circle"]).tensors["embeds"]
    with steering.attach(backbone):
        edited = backbone.encode(["a red circle"]).tensors["embeds"]
    assert not torch.allclose(edited, plain, atol=1e-4)
    assert torch.equal(backbone.encode(["a red circle"]).tensors["embeds"], plain)
    save(steering, tmp_path)
    with load(tmp_path).attach(backbone):
        assert torch.equal(backbone.encode(["a red circle"]).tensors["embeds"], edited)


def test_padding_is_left_alone_and_has_no_say_in_what_real_tokens_get(backbone, monkeypatch):
    site, draws = sorted(backbone.text_sites)[0], torch.Generator().manual_seed(0)
    h, network = torch.randn(2, 5, 6, generator=draws), Transport(6, 4).restart(draws)
    torch.nn.init.normal_(network.model[-1].weight, generator=draws)
    by = {name: value.detach() for name, value in network.state_dict().items()}
    steering = Steering("network", {(site, 0): by}, {(site, 0): role_strengths("CONDITIONAL", 1.0, 0.0)})
    at = Moment(0, site, {"cond": slice(0, 2)})
    alone = steering.edit(h[:, :3], at)
    real = torch.tensor([[True] * 3 + [False] * 2] * 2)
    monkeypatch.setattr("stages.interventions.steering.real_tokens", lambda *_: real)
    out = steering.edit(h, at, backbone)
    assert torch.equal(out[:, 3:], h[:, 3:]) and not torch.equal(out[:, :3], h[:, :3])
    torch.testing.assert_close(out[:, :3], alone)
