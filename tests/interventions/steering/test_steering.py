"""Steering: identity at strength 0, the right rows, steps and tokens, and setups read as documented."""

import dataclasses
import json

import pytest
import torch

from stages.control.sites import Moment, Site
from stages.documented.setups import Scale, Setup, parse_setup, read_setups
from stages.interventions import Stack, load, save
from stages.interventions.guidance import PromptGuidance
from stages.interventions.steering.maps import FORMS, Transport, renormed
from stages.interventions.steering.steering import Steering, role_strengths, stored_step
from stages.methods.activation_transport import ActivationTransport
from stages.methods.casteer import CASteer
from stages.methods.conditioned_transport import ConditionedTransport
from stages.methods.mean_difference import MeanDifference
from stages.methods.prototype_steering import PrototypeSteering
from stages.methods.shared.classes import Classes, activations, sites_at
from stages.objectives.statistics import prototype_direction
from stages.reading.activations import keep_token_means

CALL = {"seeds": [1, 2], "steps": 4, "guidance": 3.0}
METHODS = {
    "casteer": CASteer(samples=4),
    "add": CASteer(samples=4, action="add", decay=True),
    "prototype": PrototypeSteering(samples=4, distance="MAHALANOBIS", gate="nearest"),
    "text": PrototypeSteering(samples=4, steering="TEXT", setup={"layers_text": [-1], "strength_text": 3.0}),
    "mean": MeanDifference(samples=4),
    "linear": ActivationTransport(samples=4, layers=("norm_cross",), support=None),
    "gaussian": ActivationTransport(samples=4, layers=("cross_attn",), transport="gaussian", incremental="no"),
    "network": ConditionedTransport(samples=4, steps=3, batch=4, hidden=8, gate="none"),
}


@pytest.fixture
def condition(backbone):
    return backbone.encode(["a red circle", "a blue square"])


def sampled(backbone, prompts=("a red circle", "a blue square")):
    return backbone.sample(backbone.encode(prompts), **CALL)


@pytest.mark.parametrize("name", METHODS)
def test_it_changes_samples_detaches_and_survives_its_file(backbone, concept, tmp_path, name):
    plain = sampled(backbone)
    steering = METHODS[name].fit(backbone, concept, seed=0)
    with steering.attach(backbone):
        edited = sampled(backbone)
    assert not torch.allclose(edited, plain, atol=1e-4)
    assert torch.equal(sampled(backbone), plain)
    save(steering, tmp_path)
    with load(tmp_path).attach(backbone):
        assert torch.equal(sampled(backbone), edited)
    with steering.scaled(0).attach(backbone):
        assert torch.equal(sampled(backbone), plain)
    with Stack(steering, PromptGuidance("a red shape")).attach(backbone):
        assert not torch.allclose(sampled(backbone), edited, atol=1e-5)


@pytest.mark.parametrize("options", [{"distance": "MAHALANOBIS"}, {"form": "project"}], ids=str)
def test_classes_that_do_not_differ_are_not_steered(backbone, concept, options):
    method = PrototypeSteering(samples=4, mode="UNCONDITIONAL", **options)
    first = {"scales": {"0": {"layers": [-1], "strength_uncond": 5.0}}}  # the empty prompt from the same noise
    plain = sampled(backbone)
    with dataclasses.replace(method, setup=first).fit(backbone, concept, seed=0).attach(backbone):
        torch.testing.assert_close(sampled(backbone), plain)
    with method.fit(backbone, concept, seed=0).attach(backbone):
        edited = sampled(backbone)
    assert edited.isfinite().all() and not torch.allclose(edited, plain, atol=1e-4)


def test_samples_that_do_not_vary_are_measured_by_the_plain_difference():
    source, target = torch.zeros(3, 4), torch.ones(3, 4)
    torch.testing.assert_close(prototype_direction(source, target, "MAHALANOBIS"), torch.ones(4))
    assert torch.equal(prototype_direction(source, source, "MAHALANOBIS"), torch.zeros(4))


@pytest.mark.parametrize("form", FORMS)
def test_strength_zero_of_every_form_is_the_identity(form):
    draws = torch.Generator().manual_seed(0)
    by = {"direction": torch.randn(6, generator=draws), "target": torch.randn(6, generator=draws)}
    by |= {
        "weight": torch.full((6,), 2.0),
        "bias": torch.ones(6),
        "support": torch.tensor([[-9.0], [9.0]]).repeat(1, 6),
    }
    by |= Transport(6, 4).restart(draws).state_dict()
    unowned = torch.get_rng_state()
    assert torch.equal(Transport.of(by).model[0].weight, by["model.0.weight"])
    assert torch.equal(torch.get_rng_state(), unowned)
    h = torch.randn(2, 3, 6, generator=draws)
    torch.testing.assert_close(FORMS[form](h, by, 0.0), h)


def test_roles_steps_and_tokens_that_are_not_meant_stay_bitwise():
    site, h = Site(0, "ff"), torch.randn(4, 5, 3, generator=torch.Generator().manual_seed(0))
    by = {"direction": torch.ones(3)}
    steering = Steering("shift", {(site, 1): by}, {(site, 1): role_strengths("CONDITIONAL", 2.0, 1.0)})
    roles = {"uncond": slice(0, 2), "cond": slice(2, 4)}
    out = steering.edit(h, Moment(1, site, roles))
    assert torch.equal(out[:2], h[:2]) and torch.equal(out[2:], h[2:] + 2)
    assert steering.edit(h, Moment(0, site, roles)) is h
    several = steering.edit(h, Moment(0, site, roles, lengths=(1, 4)))  # all scales in one call
    assert torch.equal(several[:, :1], h[:, :1]) and torch.equal(several[2:, 1:], h[2:, 1:] + 2)


def test_the_erased_direction_is_gone_and_lengths_stay():
    draws = torch.Generator().manual_seed(0)
    h, v = torch.randn(2, 7, 5, generator=draws), torch.nn.functional.normalize(torch.randn(5, generator=draws), dim=0)
    once, twice = (FORMS["erase"](h, {"direction": v}, beta) for beta in (1.0, 2.0))
    assert (once @ v).max() < 1e-6
    torch.testing.assert_close((twice @ v).abs(), (h @ v).abs(), rtol=1e-5, atol=1e-6)
    against = (h @ v) < 0
    assert torch.equal(once[against], h[against])
    torch.testing.assert_close(renormed(once, h).norm(dim=-1), h.norm(dim=-1))


def test_steps_that_were_not_learned_take_the_nearest_earlier_one():
    assert [stored_step(step, [0, 2, 5]) for step in range(8)] == [0, 0, 2, 2, 2, 5, 5, 5]
    assert stored_step(3, [7]) == 7


def test_both_classes_are_sampled_from_the_same_noise(backbone, concept):
    site = sites_at(backbone, "ca_block")
    classes = Classes.of(concept, 3)
    once, again = (activations(backbone, classes.source, site, seed=0).get(site[0], 0) for _ in range(2))
    assert torch.equal(once, again) and classes.source[0] == "a red shape" and classes.target[0] == "a shape"
    other = activations(backbone, classes.source, site, seed=1).get(site[0], 0)
    assert not torch.allclose(once, other)


def test_text_layers_do_work_on_real_tokens_only(backbone, concept):
    steering = METHODS["text"].fit(backbone, concept, seed=0)
    assert {site.stream for site, _ in steering.maps} == {"encoder"}
    site = sorted(backbone.addresses.text_sites)[-1]
    with keep_token_means(backbone, [site]) as before:
        plain = backbone.encode(["a red circle"]).tensors["embeds"]
    with steering.attach(backbone), keep_token_means(backbone, [site]) as after:
        edited = backbone.encode(["a red circle"]).tensors["embeds"]
    assert not torch.allclose(edited, plain, atol=1e-4)
    assert not torch.allclose(before.get(site, 0), after.get(site, 0), atol=1e-4)
    untouched = backbone.encode([""]).tensors["embeds"]
    with steering.attach(backbone):
        torch.testing.assert_close(backbone.encode([""]).tensors["embeds"], untouched)


def test_classes_may_come_from_a_datasets_labels(backbone, concept):
    concept = dataclasses.replace(concept, dataset="data/shapes_colors.csv")
    method = PrototypeSteering(samples=3, classes=({"colour": "red"}, {"colour": "blue"}), variant=1)
    classes = method._classes(concept)
    assert all("red" in prompt for prompt in classes.source) and all("blue" in prompt for prompt in classes.target)
    swapped = dataclasses.replace(method, variant=0)._classes(concept)
    assert (swapped.source, swapped.target) == (classes.target, classes.source)


def test_a_gate_may_keep_out_the_prompts_that_must_not_change(backbone, concept):
    site = sites_at(backbone, "ca")[0]
    options = {"samples": 3, "location": "ca", "form": "attract", "gate": "nearest"}
    target, retain = (
        PrototypeSteering(**options, against=against).fit(backbone, concept, seed=0).maps[site, 0]
        for against in ("target", "retain")
    )
    kept = activations(backbone, [concept.retain[i % len(concept.retain)] for i in range(3)], [site], seed=0)
    torch.testing.assert_close(retain["other"], kept.get(site, 0).mean(0))
    assert torch.equal(target["other"], target["target"])
    assert all(torch.equal(target[name], retain[name]) for name in ("direction", "target", "source"))


EXAMPLE = """{"scales": {"0": {"layers": [-1], "strength_cond": 3.0, "strength_uncond": 1.0},
 "4": {"layers": [], "strength_cond": 0, "strength_uncond": 0}},
 "layers_text": [21, 22, 23], "strength_text": 5.0},
"""


@pytest.mark.parametrize("text", [EXAMPLE, f"[{EXAMPLE}]", EXAMPLE.strip().rstrip(",")])
def test_the_documented_setup_loads(tmp_path, text):
    path = tmp_path / "setup.json"
    path.write_text(text)
    (setup,) = read_setups(path)
    assert setup.scales[0] == Scale((-1,), 3.0, 1.0) and setup.scales[4].layers == ()
    assert setup.scale(1) is None and (setup.layers_text, setup.strength_text) == ((21, 22, 23), 5.0)


@pytest.mark.parametrize("trailing", ["", ","])
def test_a_run_takes_one_setup_of_a_list(backbone, concept, tmp_path, trailing):
    path = tmp_path / "setups.json"
    rows = [{"scales": {str(step): {"layers": [0], "strength_cond": 1.0}}} for step in (1, 3)]
    path.write_text(json.dumps(rows) + trailing)
    method = PrototypeSteering(samples=2, setup=str(path))
    chosen = [dataclasses.replace(method, setup_index=i).fit(backbone, concept, seed=0) for i in (0, 1)]
    assert [{step for _, step in steering.maps} for steering in chosen] == [{1}, {3}]
    with pytest.raises(ValueError, match="a run has one setup, got 2; choose one by setup_index, or sweep over it"):
        method.fit(backbone, concept, seed=0)
    with pytest.raises(ValueError, match="setup_index: .*setups.json has the setups 0 to 1, got 2"):
        dataclasses.replace(method, setup_index=2).fit(backbone, concept, seed=0)
    path.write_text("[]")
    with pytest.raises(ValueError, match=r"setups\.json: no setup in it"):
        method.fit(backbone, concept, seed=0)


def test_strengths_may_differ_by_layer():
    setup = parse_setup({"scales": {"1": {"layers": [0, 3], "strength_cond": [1, 2], "strength_uncond": {"3": 5}}}})
    assert [setup.scale(1).at(layer) for layer in (0, 3)] == [(1.0, 0.0), (2.0, 5.0)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "setup: expected an object"),
        ({"scale": {}}, "setup: unknown field 'scale'"),
        ({"scales": []}, "scales: expected an object"),
        ({"scales": {"x": {}}}, "scales: 'x' must be a scale's number"),
        ({"scales": {"0": 3}}, r"scales\.0: expected an object"),
        ({"scales": {"0": {"layer": [1]}}}, r"scales\.0: unknown field 'layer'"),
        ({"scales": {"0": {"layers": [-1, 2]}}}, r"scales\.0\.layers: -1 means all layers and stands alone"),
        ({"scales": {"0": {"layers": [-2]}}}, r"scales\.0\.layers: layers are counted from 0"),
        ({"scales": {"0": {"layers": "all"}}}, r"scales\.0\.layers: expected a list"),
        ({"scales": {"0": {"layers": [1], "strength_cond": "3"}}}, r"scales\.0\.strength_cond: expected a number"),
        ({"scales": {"0": {"layers": [1], "strength_cond": [1, 2]}}}, r"scales\.0\.strength_cond: 2 strengths for 1"),
        (
            {"scales": {"0": {"layers": [1], "strength_cond": {"x": 5}}}},
            r"scales\.0\.strength_cond: 'x' must be a layer",
        ),
        (
            {"scales": {"0": {"layers": [1], "strength_uncond": {"2": 5}}}},
            r"scales\.0\.strength_uncond: layer 2 is none of its layers \[1\]",
        ),
        (
            {"scales": {"0": {"layers": [1], "strength_cond": float("nan")}}},
            r"strength_cond: expected a number, got nan",
        ),
        ({"strength_text": float("inf")}, "strength_text: expected a number, got inf"),
        ({"layers_text": 3}, "layers_text: expected a list"),
        ({"strength_text": True}, "strength_text: expected a number"),
    ],
)
def test_every_wrong_setup_names_its_field(content, message):
    with pytest.raises(ValueError, match=message):
        parse_setup(content)


def test_a_setup_beyond_the_network_names_its_field(backbone, concept):
    method = PrototypeSteering(samples=2, setup={"scales": {"9": {"layers": [0]}}})
    with pytest.raises(ValueError, match="scales: 9 must be 0 to 3"):
        method.fit(backbone, concept, seed=0)
    with pytest.raises(ValueError, match=r"scales\.0\.layers: layer 12 must be 0 to 6"):
        Setup({0: Scale((12,), 1.0)}).check(4, 7, 1)
    with pytest.raises(ValueError, match=r"scales\.0\.strength_cond: layer 12 must be 0 to 6"):
        Setup({0: Scale((-1,), {12: 1.0})}).check(4, 7, 1)
    for changes, message in (
        ({"mode": "UNCONDITIONAL"}, "mode: UNCONDITIONAL is of the image"),
        ({"scales": (0,)}, "scales is of"),
    ):
        text = dataclasses.replace(METHODS["text"], **changes)
        with pytest.raises(ValueError, match=message):
            text.fit(backbone, concept, seed=0)


def test_a_wrong_setup_of_a_list_is_counted(tmp_path):
    path = tmp_path / "setups.json"
    path.write_text(json.dumps([{}, {"scale": {}}]))
    with pytest.raises(ValueError, match=r"setups\.json: setup 1: setup: unknown field 'scale'"):
        read_setups(path)


def test_a_setup_narrows_to_some_scales_and_layers():
    setup = parse_setup({"scales": {"all": {"layers": [-1], "strength_cond": 2.0}}, "layers_text": [1]})
    assert setup.narrowed((), ()) == setup
    assert setup.narrowed((1, 3), (0, 2)).scales == {step: Scale((0, 2), 2.0) for step in (1, 3)}
    few = parse_setup({"scales": {"0": {"layers": [1, 2], "strength_cond": [3, 4]}}})
    assert setup.narrowed_text((0, 1)).layers_text == (1,) and setup.narrowed_text(()) == setup
    assert few.narrowed((0, 1), (2, 5)).scales == {0: Scale((2,), {1: 3.0, 2: 4.0})}


def test_minus_one_narrows_to_all_there_is():
    few = parse_setup({"scales": {"0": {"layers": [1, 2], "strength_cond": 3.0}}, "layers_text": [4, 5]})
    assert few.narrowed((0,), (-1,)) == few == few.narrowed((-1,), ()) == few.narrowed_text((-1,))
    every = parse_setup({"scales": {"all": {"layers": [-1], "strength_cond": 3.0}}, "layers_text": [-1]})
    assert every.narrowed((), (-1,)) == every == every.narrowed_text((-1,))


@pytest.mark.parametrize(
    ("scales", "layers", "message"),
    [
        ((3,), (), r"scales: the setup steers none of \[3\], only \[0\]"),
        ((4,), (), r"scales: the setup steers none of \[4\], only \[0\]"),
        ((0,), (5, 7), r"layers: the setup steers none of \[5, 7\] there, only \[1, 2\]"),
    ],
)
def test_what_leaves_nothing_to_steer_names_its_field(scales, layers, message):
    off = {"layers": [], "strength_cond": 1.0}
    few = parse_setup({"scales": {"0": {"layers": [1, 2], "strength_cond": 3.0}, "4": off}, "layers_text": [4]})
    with pytest.raises(ValueError, match=message):
        few.narrowed(scales, layers)
    with pytest.raises(ValueError, match=r"layers: the setup steers none of \[3\] of text, only \[4\]"):
        few.narrowed_text((3,))


def test_a_narrowed_and_scaled_steering_acts_there_and_so_strongly(backbone, concept):
    wide = PrototypeSteering(samples=2).fit(backbone, concept, seed=0)
    some = PrototypeSteering(samples=2, scales=(1,), layers=(0, 2), strength=3.0).fit(backbone, concept, seed=0)
    sites = sites_at(backbone, "ffn")
    assert set(some.maps) == {(sites[0], 1), (sites[2], 1)} < set(wide.maps)
    assert all(torch.equal(some.maps[key]["direction"], wide.maps[key]["direction"]) for key in some.maps)
    assert all(both == {"cond": 3.0, "uncond": 3.0} for both in some.strengths.values())
    with pytest.raises(ValueError, match="scales: 9 must be 0 to 3"):
        PrototypeSteering(samples=2, scales=(9,)).fit(backbone, concept, seed=0)
