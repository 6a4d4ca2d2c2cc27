"""Attention to words, read where it is computed: equal to the softmax, and no bit of the prediction changes."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from stages.reading.attention import AttentionCall, attended, attention_maps
from tests.backbones.families import FAMILIES


def call(mask=None, scale=None):
    draw = torch.Generator().manual_seed(0)
    query, key = torch.randn(2, 3, 10, 4, generator=draw), torch.randn(2, 3, 7, 4, generator=draw)
    return AttentionCall(query, key, mask, scale)


def by_softmax(asked, keep, columns):
    """What torch's own scaled dot product makes of values that are one at the columns kept, and zero elsewhere."""
    values = torch.zeros(*asked.key.shape[:-1], 1)
    values[..., columns, 0] = keep[:, None]
    out = scaled_dot_product_attention(asked.query, asked.key, values, attn_mask=asked.mask, scale=asked.scale)
    return out[..., 0].mean(1)


@pytest.mark.parametrize("chunk", [1, 3, 100])
@pytest.mark.parametrize("mask", ["none", "true", "added", "rows"])
def test_it_equals_the_softmax_whatever_the_chunk(mask, chunk):
    draw = torch.Generator().manual_seed(1)
    allowed = torch.rand(2, 1, 10, 7, generator=draw) > 0.3
    allowed[..., 0] = True
    masks = {"none": None, "true": allowed[:, :, :1], "added": torch.randn(2, 3, 1, 7, generator=draw), "rows": allowed}
    keep, columns = torch.tensor([[0, 1, 1, 0, 0], [0, 0, 0, 0, 1.0]]), slice(2, None)
    asked = call(masks[mask], scale=0.7)
    torch.testing.assert_close(attended(asked, keep, columns, chunk=chunk), by_softmax(asked, keep, columns))


def test_all_keys_together_get_all_attention():
    assert torch.allclose(attended(call(), torch.ones(2, 7)), torch.ones(2, 10))


@pytest.mark.parametrize("name", ["unet", "sd3", "flux-schnell", "cogvideox-2b"])
def test_every_family_with_text_is_read_without_a_change_of_its_prediction(made, query, name):
    backbone = made(name)
    state, condition = query(backbone)
    prediction, maps = attention_maps(backbone, state, condition, [[1], []])
    assert torch.equal(prediction, backbone.predict(state, condition))
    for site, values in maps.items():
        assert values.ndim == 2 and len(values) == 2, site
        assert values[0].min() > 0 and values[0].max() < 1
        assert not values[1].any()  # no positions, no attention


def test_gradients_pass_to_what_made_queries_and_keys(backbone):
    condition = backbone.encode(["a red circle"])
    state = next(backbone.states(condition, 1, seed=0))
    parameter = backbone.addresses.parameter(backbone.weights("cross_attn", projections=("key",))[0]).requires_grad_()
    for gradients in (False, True):
        _, maps = attention_maps(backbone, state, condition, [[2]], gradients=gradients)
        assert all(values.requires_grad == gradients for values in list(maps.values())[:1])
    (gradient,) = torch.autograd.grad(sum(values.sum() for values in maps.values()), [parameter])
    assert gradient.abs().max() > 0


def test_a_network_without_text_is_refused():
    backbone = FAMILIES["dit"].make()
    condition = backbone.encode(["red"])
    backbone.gather(condition.prompts, 0)
    state = backbone.draw(condition, torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match="has no text in its attention"):
        attention_maps(backbone, state, condition, [[0]])
