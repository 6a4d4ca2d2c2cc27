"""`packed_weights` tells how many layers it packed, and changes nothing where it can pack none."""

import logging

import pytest
import torch

from Infinity import Sampling, packed_weights, sample
from Infinity.linear import Linear, multiplies


def linears(model) -> list[Linear]:
    return [one for one in model.modules() if isinstance(one, Linear)]


def test_every_layer_is_counted_within_an_outer_context_too(model):
    with packed_weights(model) as packed:
        assert packed == len(linears(model)) == sum(one.packed is not None for one in linears(model))
        with packed_weights(model) as again:
            assert again == packed
        assert all(one.packed is not None for one in linears(model))
    assert not any(one.packed is not None for one in linears(model))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_packed_is_what_onednn_multiplies_here(model, dtype):
    with packed_weights(model.to(dtype)) as packed:
        assert packed == (len(linears(model)) if multiplies(dtype) else 0)


@pytest.mark.filterwarnings("ignore:TF32 acceleration")
def test_without_onednn_nothing_is_packed_the_log_says_why_and_the_bits_are_equal(model, text, grids, caplog):
    settings = Sampling(2.0, 0.7)
    plain = sample(model, text, grids, settings, seeds=[1, 2, 3])
    with (
        torch.backends.mkldnn.flags(enabled=False),
        caplog.at_level(logging.INFO, "Infinity.linear"),
        packed_weights(model) as packed,
    ):
        inside = sample(model, text, grids, settings, seeds=[1, 2, 3])
    assert packed == 0 and caplog.messages == ["no weight was packed: oneDNN is absent or switched off"]
    assert all(torch.equal(one, other) for one, other in zip(plain.bits, inside.bits, strict=True))


def test_a_dtype_that_onednn_lacks_is_named(model, caplog):
    with caplog.at_level(logging.INFO, "Infinity.linear"), packed_weights(model.double()) as packed:
        assert packed == 0
    assert caplog.messages == ["no weight was packed: oneDNN multiplies no float64 on this processor"]
