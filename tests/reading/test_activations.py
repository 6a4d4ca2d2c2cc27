"""Activations of a running backbone: sorted by site, step and role, and means that padding does not enter."""

import pytest
import torch

from stages.control.edits import edit_activations
from stages.control.sites import Moment, Site
from stages.methods.shared.classes import sites_at
from stages.reading.activations import TokenMeans, keep_activations, keep_token_means, real_tokens, token_mean

CALL = {"seeds": [1, 2], "steps": 4, "guidance": 3.0}


@pytest.fixture
def condition(backbone):
    return backbone.encode(["a red circle", "a blue square"])


def test_pooling_sorts_by_site_step_and_role(backbone, condition):
    sites = sites_at(backbone, "ca")
    with keep_token_means(backbone, sites) as pool:
        backbone.sample(condition, **CALL)
    assert pool.steps(sites[0]) == [0, 1, 2, 3] == pool.steps(sites[0], "uncond")
    assert pool.get(sites[0], 2).shape[0] == 2
    with keep_activations(backbone, sites) as found:
        state = next(backbone.states(condition, 1, seed=0))
        backbone.predict(state, condition)
    assert set(found.states) == set(sites) and found.steps == [state.step]
    assert found.lengths[sites[0]] == [found.states[sites[0]].shape[1]]
    with pytest.raises(KeyError, match="no activations of 0.ff.out"):
        pool.get(Site(0, "ff"), 0)


def test_reading_changes_no_bit_and_ends_with_its_block(backbone, condition):
    plain = backbone.sample(condition, **CALL)
    with keep_token_means(backbone, sites_at(backbone, "ffn")) as pool:
        assert torch.equal(backbone.sample(condition, **CALL), plain)
    site = sites_at(backbone, "ffn")[0]
    before = len(pool.get(site, 0))
    backbone.sample(condition, **CALL)
    assert len(pool.get(site, 0)) == before == 2


def test_a_whole_activation_keeps_its_graph(backbone, condition):
    (site, *_) = sites_at(backbone, "ca")
    state = next(backbone.states(condition, 1, seed=0))
    parameter = backbone.addresses.parameter(backbone.weights("cross_attn")[0]).requires_grad_()
    with keep_activations(backbone, [site]) as found:
        backbone.predict(state, condition)
    (gradient,) = torch.autograd.grad(found.states[site].square().mean(), [parameter])
    assert gradient.abs().max() > 0


def test_a_site_that_is_not_there_is_named(backbone):
    with pytest.raises(KeyError, match="no such site: 9.ff.out"), keep_token_means(backbone, [Site(9, "ff")]):
        pass


def test_rows_come_back_in_the_order_of_computation():
    pool, site = TokenMeans(), Site(0, "ff")
    for value in (1.0, 2.0):
        pool.add(site, 3, "cond", torch.full((1, 2), value))
    pool.add(site, 1, "uncond", torch.zeros(1, 2))
    assert pool.get(site, 3).tolist() == [[1.0, 1.0], [2.0, 2.0]]
    assert pool.steps(site) == [3] and pool.steps(site, "uncond") == [1] and pool.steps(Site(1, "ff")) == []


def test_means_are_of_the_tokens_asked_for_and_of_real_ones_alone():
    h = torch.arange(12.0).view(2, 3, 2)
    assert token_mean(h).tolist() == [[2.0, 3.0], [8.0, 9.0]]
    assert token_mean(h, slice(1, 3)).tolist() == [[3.0, 4.0], [9.0, 10.0]]
    mask = torch.tensor([[True, True, False], [False, False, False]])
    assert token_mean(h, mask=mask).tolist() == [[1.0, 2.0], [0.0, 0.0]]  # a row without any is zero, and no NaN
    assert torch.equal(token_mean(h[:, 0].half()), h[:, 0])


def test_padding_is_known_in_text_encoders_alone(backbone):
    site, masks = next(iter(backbone.addresses.text_sites)), []

    def note(h, at):
        masks.append(real_tokens(backbone, h, at))
        return h

    with edit_activations(backbone, {site: note}):
        backbone.encode(["a red circle", "a circle"])
    assert masks[0].sum(1).tolist() == [5, 4]  # with the marks of beginning and end
    assert masks[0][:, 0].all() and not masks[0][:, -1].any()
    picture = Moment(0, backbone.select("ff")[0], {"cond": slice(0, 2)})
    assert real_tokens(backbone, torch.zeros(2, 4, 8), picture) is None
