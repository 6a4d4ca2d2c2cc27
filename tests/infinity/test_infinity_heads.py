"""Attention while sampling: oneDNN's products against torch's kernel in double precision."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.nn.functional import normalize
from torch.overrides import TorchFunctionMode

from Infinity import Sampling, folded, heads, packed_weights, sample
from Infinity.attention import TextContext
from Infinity.folded import FoldedText
from Infinity.heads import attend, attend_to_past, attend_to_text
from Infinity.linear import multiplies

BF16 = torch.bfloat16
KERNEL = nn.functional.scaled_dot_product_attention


@pytest.fixture
def kernel(monkeypatch):
    """Calls of torch's own kernel."""
    calls = []
    monkeypatch.setattr(
        nn.functional, "scaled_dot_product_attention", lambda *a, **k: calls.append(a) or KERNEL(*a, **k)
    )
    return calls


def random(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("many", [2**22, 2**17, 2**14, 2**8])
@pytest.mark.parametrize("grouped", [0, 2**30])
@pytest.mark.parametrize(
    ("dtype", "largest", "error"),
    [(torch.float32, 20, 1e-5), (torch.float32, 100, 1e-4), (BF16, 20, 0.02), (BF16, 4, 0.02)],
)
def test_attention_to_the_past_equals_the_plain_one(monkeypatch, kernel, many, grouped, dtype, largest, error):
    monkeypatch.setattr(heads, "MANY_LOGITS", many)
    monkeypatch.setattr(heads, "FEW_GROUPED", grouped)
    q, k = (normalize(random(2, 3, n, 16), dim=-1) for n in (120, 300))
    q, k, v = (one.to(dtype) for one in (q * largest, k, random(2, 3, 300, 16)))
    past = k[:, :, :200], v[:, :, :200]  # as a cache gives them
    with torch.no_grad():
        ours = attend_to_past(q.transpose(1, 2).contiguous().transpose(1, 2), *past, largest)
    near = many >= heads.FEW_QUERIES * 2 * 3 * 200
    by_products = near and (dtype == torch.float32 or largest <= 8) or not grouped
    assert len(kernel) == (0 if by_products and multiplies(dtype) else 1)
    exact = attend(q.double(), *(one.double() for one in past)).transpose(1, 2).flatten(2)
    assert ours.dtype == dtype and torch.allclose(ours.double(), exact, atol=error)


@pytest.mark.parametrize(("few", "many"), [(0, 2**22), (0, 2**4), (2**9, 2**22)])
@pytest.mark.parametrize("real", [None, [7, 5]])
@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-5), (BF16, 0.02)])
@pytest.mark.parametrize("large", [1, 64])
@pytest.mark.parametrize("width", [16, 24])
def test_attention_to_the_text_equals_the_plain_one(monkeypatch, kernel, few, many, real, dtype, error, large, width):
    monkeypatch.setattr(heads, "FEW_LOGITS", few)
    monkeypatch.setattr(heads, "MANY_LOGITS", many)
    q, k, v = (random(2, n, 3, width).to(dtype).transpose(1, 2) for n in (9, 7, 7))
    mask = None if real is None else (torch.arange(7) < torch.tensor(real)[:, None])[:, None, None]
    with torch.no_grad():
        ours = attend_to_text(large * q, k, v, mask=mask)
    suits = few <= 9 * 7 <= many // (2 * 3) and large == 1 and multiplies(dtype)
    assert len(kernel) == (0 if suits else 1)
    exact = attend(large * q.double(), k.double(), v.double(), mask=mask, scale=width**-0.5)
    assert ours.dtype == dtype and torch.allclose(ours.double(), heads.merge(exact), atol=error)


@pytest.mark.parametrize("dtype", [torch.float32, BF16])
def test_a_function_mode_sees_attention(monkeypatch, dtype):
    monkeypatch.setattr(heads, "FEW_LOGITS", 0)
    q = torch.ones(1, 1, 2, 16, dtype=dtype)
    with torch.no_grad(), _Seen() as seen:
        attend_to_text(q, q, q)
        attend_to_past(q, q, q, 1.0)
    assert seen.functions.count(KERNEL) == 2


class _Seen(TorchFunctionMode):
    """Every function of torch that is called."""

    def __init__(self):
        super().__init__()
        self.functions = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        self.functions.append(function)
        return function(*args, **(kwargs or {}))


@pytest.fixture
def reads(monkeypatch):
    """What folded texts gave, None where they refused; a text of any length may be folded into short heads."""
    found, attend = [], folded.FoldedText.attend
    monkeypatch.setattr(folded.FoldedText, "attend", lambda self, x: found.append(attend(self, x)) or found[-1])
    monkeypatch.setattr(folded, "PROJECTIONS", 8.0)
    return found


def in_bf16(model, text, grids):
    with packed_weights(model), torch.autocast("cpu", BF16), torch.no_grad():
        return sample(model, text, grids, Sampling(2.0, 0.7), seeds=range(len(text)))


@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-5), (BF16, 0.05)])
@pytest.mark.parametrize("rows", [[0], [0, 1, 2]])
@pytest.mark.parametrize("large", [1.0, 300.0])
def test_a_folded_text_reads_as_the_layer_that_it_stands_for(model, text, dtype, error, rows, large):
    layer, x = model.blocks[0].ca.to(dtype), random(len(rows), 5, 32).to(dtype)
    with torch.no_grad():
        layer.mat_q.weight *= large
        context = model.condition(text.select(rows)).text
        context = TextContext(context.features.to(dtype), context.mask)
        ours = FoldedText.of(layer.mat_q, layer.proj, *layer.read(context.features), context.mask).attend(x)
        assert (ours is None) == (large > 1)
        assert ours is None or torch.allclose(ours.float(), layer(x, context).float(), atol=error)


@pytest.mark.skipif(not multiplies(BF16), reason="oneDNN has no bf16 on this processor")
def test_bf16_folds_at_every_scale_and_draws_as_without(model, text, grids, reads, monkeypatch):
    ours = in_bf16(model.cast_blocks(BF16), text, grids)
    assert len(reads) == len(model.blocks) * len(grids) and all(one is not None for one in reads)
    monkeypatch.setattr(folded, "PROJECTIONS", 6 * 7 / 8 - 0.1)
    plain = in_bf16(model, text, grids)
    assert len(reads) == len(model.blocks) * len(grids)
    same = torch.cat([(a == b).float().flatten() for a, b in zip(ours.bits, plain.bits, strict=True)])
    assert same.mean() > 0.95


@pytest.mark.skipif(not multiplies(BF16), reason="oneDNN has no bf16 on this processor")
def test_large_logits_hooks_adapters_and_long_texts_go_past_folding(model, text, grids, reads, monkeypatch):
    model.cast_blocks(BF16)
    with torch.no_grad():
        model.blocks[0].ca.mat_q.weight *= 300
    in_bf16(model, text, grids)
    assert reads[0] is None and sum(one is None for one in reads) < len(model.blocks)  # once a block at most
    reads.clear()
    handles = [block.ca.mat_q.register_forward_hook(lambda *_: None) for block in model.blocks]
    in_bf16(model, text, grids)
    assert not reads
    for handle in handles:
        handle.remove()
    with _Seen():
        in_bf16(model, text, grids)
    assert not reads
    monkeypatch.setattr(folded, "PROJECTIONS", 0.5)
    in_bf16(model, text, grids)
    assert not reads
    monkeypatch.setattr(folded, "PROJECTIONS", 8.0)
    get_peft_model(model, LoraConfig(r=2, target_modules=["ca.proj"]))
    in_bf16(model, text, grids)
    assert not reads


def test_float32_keeps_the_order_of_its_sums(model, text, grids, reads):
    with packed_weights(model):
        sample(model, text, grids, Sampling(2.0, 0.7), seeds=range(3))
    assert not reads
