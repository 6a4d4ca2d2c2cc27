"""Attention while sampling: oneDNN's products against torch's kernel in double precision."""

import pytest
import torch
from torch import nn
from torch.nn.functional import normalize
from torch.overrides import TorchFunctionMode

from Infinity import Sampling, heads, packed_weights, sample
from Infinity.heads import attend, attend_to_past, attend_to_text
from Infinity.layers import multiplies

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


class TestFoldedText:
    """Cross-attention whose text is folded into its projections."""

    GUIDED = Sampling(2.0, 0.7)

    @pytest.fixture
    def folded(self, monkeypatch):
        """Products that a folded text made, by their shapes; short heads fold any text."""
        from Infinity import folded

        calls, product = [], folded._Products.__call__
        monkeypatch.setattr(folded._Products, "__call__", lambda self, x: calls.append(x.shape) or product(self, x))
        monkeypatch.setattr(folded, "SHARE_OF_HEAD", 8.0)
        return calls

    def logits(self, model, text, grids, **options):
        with torch.no_grad():
            return sample(model, text, grids, self.GUIDED, seeds=range(len(text)), **options)

    @pytest.mark.parametrize("rows", [[0], [0, 1, 2]])
    def test_gives_the_same_picture_of_prompts_of_any_length(self, model, text, grids, folded, rows):
        text = text.select(rows)
        plain = self.logits(model, text, grids)
        with packed_weights(model, fold=True):
            ours = self.logits(model, text, grids)
        assert len(folded) == 2 * len(model.blocks) * len(grids)
        assert all(torch.equal(a, b) for a, b in zip(ours.bits, plain.bits, strict=True))

    @pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-5), (BF16, 0.05)])
    @pytest.mark.parametrize("large", [1.0, 100.0])
    def test_equals_the_layer_that_it_stands_for(self, model, text, grids, folded, dtype, error, large):
        block = model.blocks[0].to(dtype)
        x = random(3, 5, 32)
        with torch.no_grad():
            block.ca.mat_q.weight *= large
            context = model.condition(text).text
            context = type(context)(context.features.to(dtype), context.mask)
            cache = model.new_cache(3, 5)[0]
            with torch.autocast("cpu", BF16, enabled=dtype == BF16):
                plain = block.ca(x, context)
                with packed_weights(model, fold=True):
                    ours = block.ca(x, context, cache)
        assert len(folded) == (2 if large == 1 else 1)
        assert ours.dtype == plain.dtype and torch.allclose(ours.float(), plain.float(), atol=error)

    def test_float32_folds_only_when_asked_and_bf16_by_itself(self, model, text, grids, folded):
        with packed_weights(model):
            self.logits(model, text, grids)
        assert not folded
        with packed_weights(model.cast_blocks(BF16)), torch.autocast("cpu", BF16):
            self.logits(model, text, grids)
        assert bool(folded) == multiplies(BF16)

    def test_hooks_long_texts_and_many_prompts_go_past_it(self, model, text, grids, folded, monkeypatch):
        from Infinity import folded as module

        with packed_weights(model, fold=True):
            seen = []
            handles = [block.ca.mat_q.register_forward_hook(lambda *_: seen.append(1)) for block in model.blocks]
            self.logits(model, text, grids)
            for handle in handles:
                handle.remove()
            assert seen and not folded
            monkeypatch.setattr(module, "MANY_PROMPTS", 5)
            self.logits(model, text, grids)
            assert not folded
            monkeypatch.setattr(module, "MANY_PROMPTS", 6)
            monkeypatch.setattr(module, "SHARE_OF_HEAD", 0.5)
            self.logits(model, text, grids)
            assert not folded
