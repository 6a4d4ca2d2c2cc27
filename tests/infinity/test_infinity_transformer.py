import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from Infinity import bitwise_loss, margins, packed_weights
from Infinity.attention import attend_groups, block_causal_groups
from Infinity.heads import attend
from Infinity.layers import FeedForward, TanhGELU, modulate
from Infinity.linear import FEW_PRODUCTS, empty_linear, multiplies
from Infinity.schedules import Schedule, schedule


def dense_mask(grids: Schedule) -> torch.Tensor:
    scale = torch.repeat_interleave(torch.arange(len(grids)), torch.tensor(grids.lengths))
    return scale[:, None] >= scale


@pytest.mark.parametrize("small", [0, 8, 60, 10_000])
def test_grouped_attention_equals_a_dense_block_causal_mask(small):
    grids = schedule("0.06M", 2.0)
    q, k, v = torch.randn(3, 2, 2, grids.tokens, 8, generator=torch.Generator().manual_seed(0))
    groups = block_causal_groups(grids, q.device, small=small)
    ours = attend_groups(q, k, v, groups)
    dense = attend(q, k, v, mask=dense_mask(grids)).transpose(1, 2).flatten(2)
    assert torch.allclose(ours, dense, atol=1e-6)
    assert groups[-1].mask is None or small >= grids.tokens


@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-6), (torch.bfloat16, 0.03)])
def test_a_packed_feed_forward_gives_the_same_unless_its_parts_are_watched(dtype, error):
    generator = torch.Generator().manual_seed(0)
    layer, x = FeedForward(16, 32), torch.randn(2, 9, 16, generator=generator).to(dtype)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 4)
        plain = layer.to(dtype)(x)
        with packed_weights(layer):
            assert torch.allclose(layer(x).float(), plain.float(), atol=error)
            handle = layer.fc1.register_forward_hook(lambda module, args, output: output * 0)
            assert torch.equal(layer(x), layer.fc2.bias.expand_as(x))
            handle.remove()


def test_no_logit_depends_on_a_finer_scale(model, inputs, text, grids):
    logits = model(inputs, text, grids)
    for scale in range(1, len(grids)):
        changed = inputs.clone()
        changed[:, grids.starts[scale] - 1 :] += 1.0
        after = model(changed, text, grids)
        assert torch.equal(after[:, : grids.starts[scale]], logits[:, : grids.starts[scale]])
        assert not torch.allclose(after[:, grids.starts[scale] :], logits[:, grids.starts[scale] :])


def test_prompts_of_different_lengths_do_not_touch_each_other(model, inputs, text, grids):
    together = model(inputs, text, grids)
    for row in range(len(text)):
        alone = model(inputs[row : row + 1], text.select([row]), grids)
        assert torch.allclose(together[row : row + 1], alone, atol=2e-5)


def test_a_dropped_prompt_reads_the_null_text_and_nothing_is_edited(model, inputs, text, grids):
    before = text.values.clone()
    drop = torch.tensor([False, True, False])
    dropped = model(inputs, text, grids, drop=drop)
    null = model(inputs, model.null_text(text), grids)
    plain = model(inputs, text, grids)
    assert torch.allclose(dropped[1], null[1], atol=1e-5) and torch.allclose(dropped[0], plain[0], atol=1e-5)
    assert not torch.allclose(dropped[1], plain[1], atol=1e-3)
    assert torch.equal(text.values, before)


def gradients(model, inputs, text, grids, labels):
    model.zero_grad()
    drop = torch.tensor([False, True, False])
    bitwise_loss(margins(model(inputs, text, grids, drop=drop)), labels, grids).backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def test_checkpointing_changes_no_gradient_and_every_parameter_has_one(model, inputs, text, grids, labels):
    plain = gradients(model, inputs, text, grids, labels)
    model.enable_gradient_checkpointing()
    recomputed = gradients(model, inputs, text, grids, labels)
    assert all(torch.equal(plain[name], recomputed[name]) for name in plain)
    assert all(bool(gradient.any()) for gradient in plain.values())


def test_every_lora_parameter_of_every_linear_gets_a_gradient(model, inputs, text, grids, labels):
    linears = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    tuned = get_peft_model(model, LoraConfig(r=2, target_modules=linears, init_lora_weights=False))
    drop = torch.tensor([True, False, False])
    bitwise_loss(margins(tuned(inputs, text, grids, drop=drop)), labels, grids).backward()
    lora = {name: parameter for name, parameter in tuned.named_parameters() if parameter.requires_grad}
    assert len(lora) == 2 * len(linears) == 2 * (4 * 7 + 8)
    assert all(parameter.grad is not None and bool(parameter.grad.any()) for parameter in lora.values())


def test_stochastic_depth_follows_its_generator_and_leaves_evaluation_alone(model, inputs, text, grids, config):
    from dataclasses import replace

    plain = model(inputs, text, grids)
    model.config = replace(config, drop_path=0.9)

    def draw(seed: int) -> torch.Tensor:
        return model(inputs, text, grids, generator=torch.Generator().manual_seed(seed))

    assert torch.equal(draw(0), plain)
    model.train()
    assert torch.equal(draw(0), draw(0)) and not torch.allclose(draw(0), draw(3))


def test_bf16_autocast_keeps_the_residual_stream_and_head_in_float32(model, inputs, text, grids):
    seen = {}
    for name in ("blocks.1", "head", "shared_ada_lin.1", "blocks.1.ffn.fc1", "word_embed", "blocks.0.ca_norm"):
        model.get_submodule(name).register_forward_hook(
            lambda module, args, output, name=name: seen.update({name: output.dtype})
        )
    exact = model(inputs, text, grids)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(inputs, text, grids)
    assert seen.pop("blocks.1.ffn.fc1") == torch.bfloat16
    assert set(seen.values()) == {torch.float32}
    assert 0 < (logits - exact).abs().max() < 0.2


def test_blocks_kept_in_bf16_run_inside_autocast(model, inputs, text, grids):
    exact = model(inputs, text, grids)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model.cast_blocks(torch.bfloat16)(inputs, text, grids)
    assert logits.dtype == torch.float32 and 0 < (logits - exact).abs().max() < 0.2


def test_inputs_that_do_not_fit_the_schedule_are_refused(model, inputs, text, grids):
    with pytest.raises(ValueError, match="do not fit a schedule"):
        model(inputs[:, :-1], text, grids)


@pytest.mark.parametrize("biased", [True, False])
def test_the_large_product_and_its_gradients_are_those_of_a_plain_linear(biased):
    generator = torch.Generator().manual_seed(0)
    layer = empty_linear(96, 64, bias=biased)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    x = torch.randn(3, 80, 96, generator=generator, requires_grad=True)
    weights = torch.randn(3, 80, 64, generator=generator)
    wanted = [x, *layer.parameters()]
    ours, theirs = layer(x), torch.nn.functional.linear(x, layer.weight, layer.bias)
    assert x.numel() * 64 >= FEW_PRODUCTS and torch.allclose(ours, theirs, atol=1e-4)
    for one, other in zip(
        torch.autograd.grad((ours * weights).sum(), wanted),
        torch.autograd.grad((theirs * weights).sum(), wanted),
        strict=True,
    ):
        assert one.shape == other.shape and torch.allclose(one, other, atol=2e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_packed_weights_give_the_same_bits_and_are_gone_afterwards(dtype):
    generator = torch.Generator().manual_seed(0)
    layer, x = empty_linear(96, 64).to(dtype), torch.randn(3, 80, 96, generator=generator).to(dtype)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
        plain, packs = layer(x), multiplies(dtype)  # a processor without bf16 has nothing to lay out for it
        with packed_weights(layer):
            assert (layer.packed is not None) == packs and torch.equal(layer(x), plain)
            with packed_weights(layer):  # an inner context leaves the outer one's copies
                pass
            assert (layer.packed is not None) == packs and torch.equal(layer(x), plain)
        assert layer.packed is None and set(layer.state_dict()) == {"weight", "bias"}


def test_gradients_edits_and_replaced_weights_go_past_the_packed_copies():
    layer, x = empty_linear(96, 64), torch.ones(3, 80, 96)
    with torch.no_grad():
        layer.weight.fill_(1.0), layer.bias.zero_()
    with packed_weights(layer):
        layer(x).sum().backward()
        assert torch.equal(layer.weight.grad, torch.full_like(layer.weight, 240.0))
        with torch.no_grad():
            layer.weight.fill_(2.0)
            assert torch.equal(layer(x), torch.full((3, 80, 64), 192.0))
            layer.weight = nn.Parameter(torch.full((64, 96), 3.0))
            assert torch.equal(layer(x), torch.full((3, 80, 64), 288.0))
    with pytest.raises(RuntimeError, match="inside"), packed_weights(layer):
        raise RuntimeError("inside")
    assert layer.packed is None


def test_modulation_and_gelu_have_the_values_and_gradients_of_their_formulas():
    generator = torch.Generator().manual_seed(0)
    x, gain, shift = (torch.randn(2, n, 8, generator=generator, requires_grad=True) for n in (5, 1, 1))
    weights = torch.randn(2, 5, 8, generator=generator)
    norm, gelu = torch.nn.functional.layer_norm, torch.nn.functional.gelu
    pairs = (
        (modulate(x, gain, shift), norm(x, (8,), eps=1e-6) * gain + shift, [x, gain, shift]),
        (TanhGELU()(x), gelu(x, approximate="tanh"), [x]),
    )
    for ours, theirs, wanted in pairs:
        assert torch.allclose(ours, theirs, atol=1e-6)
        gradients = (torch.autograd.grad((one * weights).sum(), wanted) for one in (ours, theirs))
        assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(*gradients, strict=True))
