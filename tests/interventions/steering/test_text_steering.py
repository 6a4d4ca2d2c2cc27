"""Steering methods in the text encoders: a location like any other, in which padding is left alone."""

import dataclasses

import pytest
import torch

from stages.control.sites import Moment
from stages.control.words import Prompt
from stages.interventions import load, save
from stages.interventions.steering.maps import Transport
from stages.interventions.steering.steering import Steering, role_strengths
from stages.methods.activation_transport import ActivationTransport
from stages.methods.casteer import CASteer
from stages.methods.conditioned_transport import ConditionedTransport
from stages.methods.mean_difference import MeanDifference
from stages.methods.shared.classes import activations, sites_at
from stages.params.concept import Concept

METHODS = {
    "casteer": CASteer(samples=4, location="text", mode="CONDITIONAL"),
    "mean": MeanDifference(samples=4, location="text", layers=(0,)),
    "linear": ActivationTransport(samples=4, layers=("text",), support=None),
    "one": ActivationTransport(samples=4, layers=("0.block.out@encoder",), transport="mean", support=None),
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


def test_padding_is_left_alone_and_has_no_say_in_what_real_tokens_get(backbone):
    site, draws = sorted(backbone.addresses.text_sites)[0], torch.Generator().manual_seed(0)
    h, network = torch.randn(2, 5, 6, generator=draws), Transport(6, 4).restart(draws)
    torch.nn.init.normal_(network.model[-1].weight, generator=draws)
    by = {name: value.detach() for name, value in network.state_dict().items()}
    steering = Steering("network", {(site, 0): by}, {(site, 0): role_strengths("CONDITIONAL", 1.0, 0.0)})
    at = Moment(0, site, {"cond": slice(0, 2)}, prompts=(Prompt("red"), Prompt("circle")))
    alone = steering.edit(h[:, :3], at)  # one word and the marks of beginning and end; two places are padding
    out = steering.edit(h, at, backbone)
    assert torch.equal(out[:, 3:], h[:, 3:]) and not torch.equal(out[:, :3], h[:, :3])
    torch.testing.assert_close(out[:, :3], alone)


def test_activations_of_text_are_read_without_sampling(backbone, concept, monkeypatch):
    text, image = sites_at(backbone, "text"), sites_at(backbone, "ca")
    sampled = activations(backbone, concept.prompts, [*text, *image], seed=0)
    monkeypatch.setattr(backbone, "sample", lambda *_, **__: pytest.fail("sampled"))
    read = activations(backbone, concept.prompts, text, seed=0)
    assert all(torch.equal(read.get(site, 0), sampled.get(site, 0)) for site in text)


def test_transport_acts_at_the_sites_that_are_named(backbone):
    names = ["0.block.out@encoder", str(backbone.select("cross_attn", stream="image")[-1])]
    assert list(map(str, ActivationTransport(layers=tuple(names)).sites(backbone))) == names
    kinds = ActivationTransport(layers=("cross_attn", "dual_attn")).sites(backbone)
    assert kinds == backbone.select("cross_attn", stream="image")  # no network has every kind
    for layers, wrong in {
        ("9.block.out",): "9.block.out",
        ("cross_attn", "9.block.out", "cros_attn"): "9.block.out, cros_attn",
        ("dual_attn",): "dual_attn",
    }.items():
        with pytest.raises(ValueError, match=f"has none of the layers {wrong}; it has"):
            ActivationTransport(layers=layers).sites(backbone)


def test_the_refusal_names_the_field_of_the_method(backbone, concept):
    with pytest.raises(ValueError, match="mode: UNCONDITIONAL is of the image, which location: text leaves alone"):
        MeanDifference(location="text", mode="UNCONDITIONAL").fit(backbone, concept, seed=0)


GATED = {
    "casteer": CASteer(samples=4, location="text", mode="CONDITIONAL"),
    "mean": MeanDifference(samples=4, location="text"),
    "linear": ActivationTransport(samples=4, layers=("text",), incremental="no"),
    "in turn": ActivationTransport(samples=4, layers=("text",)),
    "network": ConditionedTransport(samples=4, steps=1, batch=4, hidden=8, location="text"),
}


@pytest.mark.parametrize("name", GATED)
def test_a_gate_may_keep_out_the_prompts_that_must_not_change(backbone, concept, name):
    site, plain = sites_at(backbone, "text")[0], GATED[name]
    target, retain = (
        dataclasses.replace(plain, gate="nearest", against=against).fit(backbone, concept, seed=0)
        for against in ("target", "retain")
    )
    assert target.gate == retain.gate == "nearest"
    gates = [steering.maps[site, 0] for steering in (target, retain)]
    kept = activations(backbone, [concept.retain[i % len(concept.retain)] for i in range(4)], [site], seed=0)
    torch.testing.assert_close(gates[1]["other"], kept.get(site, 0).mean(0))
    assert not torch.allclose(gates[0]["other"], gates[1]["other"])
    same = gates[0].keys() - {"other"}
    assert len(same) > 1 and all(torch.equal(gates[0][key], gates[1][key]) for key in same)


@pytest.mark.parametrize("name", GATED)
def test_a_gate_that_reads_no_other_class_samples_none(backbone, concept, name, monkeypatch):
    monkeypatch.setattr(
        "stages.methods.shared.classes.activations", lambda *_: pytest.fail("sampled what must not change")
    )
    for gate in ("none", "region"):
        assert dataclasses.replace(GATED[name], gate=gate, against="retain").fit(backbone, concept, seed=0).gate == gate


def test_what_must_not_change_is_sampled_once_for_all_sites(backbone, concept, monkeypatch):
    seen, layers = [], ("text", "cross_attn")
    method = ActivationTransport(samples=4, layers=layers, gate="nearest", against="retain")
    monkeypatch.setattr(
        "stages.methods.shared.classes.activations",
        lambda *given, **kept: seen.append(given[2]) or activations(*given, **kept),
    )
    sites = {site for site, _ in method.fit(backbone, concept, seed=0).maps}
    assert len(sites) > 1 and [set(found) for found in seen] == [sites]


def test_mean_differences_gate_has_a_quantile(backbone):
    prompts = ("a red circle", "a red square", "red")
    concept = Concept("red", prompts, tuple(prompt.replace("red", "blue") for prompt in prompts), ("a circle",))
    plain = MeanDifference(samples=4, location="text", gate="region")
    half, all_of_them = (
        list(dataclasses.replace(plain, quantile=quantile).fit(backbone, concept, seed=0).maps.values())
        for quantile in (0.5, 1.0)
    )
    assert all(low["limit"] < high["limit"] for low, high in zip(half, all_of_them, strict=True))
