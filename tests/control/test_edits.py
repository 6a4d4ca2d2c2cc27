"""Edits together: what fails half way, one parameter of two names, nesting. Each alone: backbones/test_families.py."""

import re

import pytest
import torch

from stages.backbones.core.base import State
from stages.control.edits import edit_activations, edit_guidance, swap_parameters
from stages.control.sites import Site, select


@pytest.fixture
def query(backbone):
    """A state, its condition, and the prediction of the untouched network."""
    latent = torch.randn(2, *backbone.latent_shape(), generator=torch.Generator().manual_seed(0))
    state = State(latent, torch.full((2,), 500), step=1)
    condition = backbone.encode(["a red circle", "a blue square"])
    return state, condition, backbone.predict(state, condition)


def ramp(value, at):
    return value + torch.linspace(-1, 1, value.shape[-1])


def test_an_exception_inside_detaches_too(backbone, query):
    state, condition, before = query
    names = backbone.weights("cross_attn")
    values = {name: torch.zeros_like(backbone.addresses.parameter(name)) for name in names}
    site = backbone.select("block")[0]
    with (
        pytest.raises(RuntimeError, match="on purpose"),
        edit_activations(backbone, {site: ramp}),
        swap_parameters(backbone, values),
        edit_guidance(backbone, lambda parts, at: parts),
    ):
        raise RuntimeError("on purpose")
    assert torch.equal(backbone.predict(state, condition), before)
    assert not backbone.attached.guidance_edits


def test_a_failure_half_way_detaches_what_was_attached(backbone, query):
    state, condition, before = query
    good = backbone.weights("cross_attn")[0]
    values = {good: torch.zeros_like(backbone.addresses.parameter(good)), "no.such.weight": torch.zeros(1)}
    with pytest.raises(KeyError, match=r"no\.such\.weight"), swap_parameters(backbone, values):
        pass
    with pytest.raises(KeyError, match="no such site"), edit_activations(backbone, {Site(99, "ff"): ramp}):
        pass
    assert torch.equal(backbone.predict(state, condition), before)


def test_one_parameter_of_two_names_takes_one_value(backbone, query):
    state, condition, _ = query
    keys = backbone.weights("cross_attn", projections=("key",))
    first, second = keys[0], next(name for name in keys[1:] if same_shape(backbone, keys[0], name))
    owners = [backbone.net.get_submodule(name.rpartition(".")[0]) for name in (first, second)]
    owners[1].weight = shared = owners[0].weight
    before = backbone.predict(state, condition)
    two = {first: torch.zeros_like(shared), second: torch.ones_like(shared)}
    with (
        pytest.raises(ValueError, match="are two names of one parameter, got two values"),
        swap_parameters(backbone, two),
    ):
        pass
    for wrong in two:
        with (
            pytest.raises(ValueError, match=rf"parameter {re.escape(wrong)} has shape .*, got \(1, 1\)"),
            swap_parameters(backbone, two | {wrong: torch.zeros(1, 1)}),
        ):
            pass
    assert owners[0].weight is owners[1].weight is shared
    with swap_parameters(backbone, {name: torch.zeros_like(shared) for name in two}):
        assert not owners[0].weight.any() and not owners[1].weight.any()
        assert backbone.attached.originals[first] is backbone.attached.originals[second] is shared
        assert not torch.equal(backbone.predict(state, condition), before)
    assert owners[0].weight is owners[1].weight is shared and not backbone.attached.originals


def same_shape(backbone, *names):
    return len({backbone.addresses.parameter(name).shape for name in names}) == 1


def test_edits_nest_in_order_of_application(backbone, query):
    state, condition, _ = query
    site = backbone.select("cross_attn")[0]
    double, shift = (lambda value, at: 2 * value), ramp
    with edit_activations(backbone, {site: double}), edit_activations(backbone, {site: shift}):
        nested = backbone.predict(state, condition)
    with edit_activations(backbone, {site: lambda value, at: shift(double(value, at), at)}):
        assert torch.equal(backbone.predict(state, condition), nested)


def test_an_edit_knows_the_step_and_which_rows_play_which_role(backbone, query):
    state, condition, _ = query
    seen = []
    with edit_activations(backbone, {backbone.select("block")[0]: lambda v, at: seen.append((at.step, at.roles)) or v}):
        backbone.guider(condition, 3.0)(state)
    assert seen == [(1, {"uncond": slice(0, 2), "cond": slice(2, 4)})]


def test_site_addresses_read_back_and_complain_usefully(backbone):
    for site in [*backbone.sites, Site(3, "ff", "hidden", "text")]:
        assert Site.parse(str(site)) == site
    with pytest.raises(ValueError, match="'moat' must be one of"):
        Site.parse("3.moat.out")
    with pytest.raises(KeyError, match=r"no such site: 9\.ff\.out; tiny has ff\.hidden in blocks 0-6"):
        backbone.addresses.tap(Site(9, "ff"))
    assert select(backbone.sites, "cross_attn", "attn")[0] == Site(0, "cross_attn")


def test_weights_follow_the_site_table(backbone):
    names = backbone.weights("cross_attn", projections=("key", "value"))
    everything = {n for n, _ in backbone.net.named_parameters() if ".attn2.to_k." in n or ".attn2.to_v." in n}
    assert set(names) == everything and len(names) == 14
