from contextlib import contextmanager, nullcontext
from dataclasses import replace

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from Infinity import Sampling, Text, folded, margins, packed_weights, sample, sample_scales, teacher_inputs
from Infinity.choice import choose_bits, seeded_noise
from Infinity.quantizer import sum_codes

SEEDS = [7, 8, 9]
GUIDED = Sampling(guidance=2.0, temperature=0.7)


def equal(one, other) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_cached_logits_equal_teacher_forced_ones(model, text, grids):
    results = list(sample_scales(model, text, grids, GUIDED, noise=seeded_noise(SEEDS)))
    inputs = teacher_inputs([result.bits for result in results], grids)
    forced = model(inputs, text, grids), model(inputs, model.null_text(text), grids)
    cached = torch.cat([result.logits for result in results], dim=1)
    assert torch.allclose(torch.cat(forced), cached, atol=2e-5)
    assert torch.allclose(torch.cat([result.inputs for result in results[:-1]], 1), inputs, atol=1e-6)


def test_a_batch_gives_the_bits_of_its_prompts_one_by_one(model, text, grids):
    together = sample(model, text, grids, GUIDED, seeds=SEEDS)
    for row, seed in enumerate(SEEDS):
        alone = sample(model, text.select([row]), grids, GUIDED, seeds=[seed])
        assert equal(alone.bits, [bits[row : row + 1] for bits in together.bits])


def test_a_seed_decides_its_own_picture_alone(model, text, grids):
    one = sample(model, text, grids, GUIDED, seeds=[1, 2, 3])
    other = sample(model, text, grids, GUIDED, seeds=[1, 5, 3])
    assert all(torch.equal(a[[0, 2]], b[[0, 2]]) for a, b in zip(one.bits, other.bits, strict=True))
    assert not torch.equal(one.bits[-1][1], other.bits[-1][1])


@pytest.mark.parametrize("rows", [[0], [0, 1, 2]])
@pytest.mark.parametrize("half", [False, True])
def test_rows_are_dropped_once_guidance_ends_without_changing_a_bit(model, text, grids, monkeypatch, rows, half):
    monkeypatch.setattr(folded, "PROJECTIONS", 8.0)
    with _in_bf16(model) if half else nullcontext():
        _end_guidance(model, text.select(rows), grids, [SEEDS[row] for row in rows])


@contextmanager
def _in_bf16(model):
    with packed_weights(model.cast_blocks(torch.bfloat16)), torch.autocast("cpu", torch.bfloat16):
        yield


def _end_guidance(model, text, grids, seeds):
    batch = len(seeds)
    settings = Sampling(guidance=[1.0, 3.0, 1.0, 1.0], temperature=[1.0, 0.5, 0.8, 1.0])
    seen = []
    watched = replace(settings, on_scale=lambda step: seen.append(dict(step.roles)))
    short = sample(model, text, grids, watched, seeds=seeds)
    guided = replace(settings, guide=lambda cond, uncond, step: step.guidance * cond + (1 - step.guidance) * uncond)
    full = sample(model, text, grids, guided, seeds=seeds)
    assert equal(short.bits, full.bits)
    assert [sorted(roles) for roles in seen] == [["cond", "uncond"]] * 2 + [["cond"]] * 2
    assert seen[0] == {"cond": slice(0, batch), "uncond": slice(batch, 2 * batch)}


def test_guidance_of_one_is_sampling_without_the_null_text(model, text, grids):
    plain = sample(model, text, grids, Sampling(guidance=1.0), seeds=SEEDS)
    halves = []
    watched = Sampling(guidance=1.0, on_scale=lambda step: halves.append(len(step.roles)))
    sample(model, text, grids, watched, seeds=SEEDS)
    assert halves == [1] * len(grids)
    assert not equal(plain.bits, sample(model, text, grids, Sampling(guidance=6.0), seeds=SEEDS).bits)


def test_the_null_text_as_negative_prompt_changes_nothing_and_another_does(model, text, grids):
    plain = sample(model, text, grids, GUIDED, seeds=SEEDS)
    null = sample(model, text, grids, GUIDED, seeds=SEEDS, negative=model.null_text(text))
    other = Text.of([torch.ones(3, text.values.shape[1])] * 3)
    assert equal(plain.bits, null.bits)
    assert not equal(plain.bits, sample(model, text, grids, GUIDED, seeds=SEEDS, negative=other).bits)


def test_guidance_after_a_block_makes_both_halves_equal_there(model, text, grids):
    outputs = []
    handle = model.blocks[3].register_forward_pre_hook(lambda module, args: outputs.append(args[0]))
    settings = Sampling(guidance=2.0, top_k=1, insertion=(-2,))
    guided = sample(model, text, grids, settings, seeds=SEEDS)
    handle.remove()
    assert all(torch.equal(x[:3], x[3:]) for x in outputs) and len(outputs) == len(grids)
    assert not equal(guided.bits, sample(model, text, grids, Sampling(guidance=2.0, top_k=1), seeds=SEEDS).bits)
    with pytest.raises(ValueError, match="insertion"):
        sample(model, text, grids, Sampling(insertion=(-4,)), seeds=SEEDS)


def test_forced_scales_are_kept_and_steer_the_rest(model, text, grids):
    free = sample(model, text, grids, GUIDED, seeds=SEEDS)
    forced = [~bits for bits in free.bits[:2]]
    steered = sample(model, text, grids, replace(GUIDED, forced=forced), seeds=SEEDS)
    assert equal(steered.bits[:2], forced)
    assert not torch.equal(steered.bits[3], free.bits[3])
    again = sample(model, text, grids, replace(GUIDED, forced=free.bits[:2]), seeds=SEEDS)
    assert equal(again.bits, free.bits)


def test_stopping_early_gives_the_prefix(model, text, grids):
    full = sample(model, text, grids, GUIDED, seeds=SEEDS)
    short = sample(model, text, grids, Sampling(2.0, 0.7, stop=2), seeds=SEEDS)
    assert equal(short.bits, full.bits[:2])
    assert torch.allclose(short.summed, sum_codes(full.bits[:2], grids.grids[-1]))


def test_a_guide_sees_margins_and_extra_texts(model, text, grids):
    seen = []

    def guide(cond, uncond, step):
        seen.append((step.index, cond.shape, step.extra["unsafe"]))
        return cond - (step.extra["unsafe"] - uncond)

    extra = {"unsafe": model.null_text(text)}
    bits = sample(model, text, grids, Sampling(temperature=0.7, guide=guide), seeds=SEEDS, extra=extra).bits
    assert [index for index, *_ in seen] == list(range(len(grids)))
    assert seen[1][1] == (3, 4, 6)
    assert equal(bits, sample(model, text, grids, Sampling(guidance=1.0, temperature=0.7), seeds=SEEDS).bits)


@pytest.mark.parametrize("name", ["blocks.1", "blocks.2.sa", "blocks.2.ca", "blocks.0.ffn", "blocks.0.ffn.fc2"])
def test_hooks_on_any_part_act_at_each_scale_and_leave_no_trace(model, text, grids, name):
    plain = sample(model, text, grids, GUIDED, seeds=SEEDS)
    shapes = []

    def edit(module, args, output):
        shapes.append(tuple(output.shape))
        return output + torch.linspace(-8, 8, output.shape[-1])

    handle = model.get_submodule(name).register_forward_hook(edit)
    edited = sample(model, text, grids, GUIDED, seeds=SEEDS)
    handle.remove()
    assert shapes == [(6, tokens, 32) for tokens in grids.lengths]
    assert not equal(edited.bits, plain.bits)
    assert equal(sample(model, text, grids, GUIDED, seeds=SEEDS).bits, plain.bits)


def test_packed_weights_draw_the_same_picture_hooked_or_not_and_with_an_adapter(model, text, grids):
    linears = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    watched = [*linears, *(f"blocks.{i}.ffn.act" for i in range(len(model.blocks)))]
    plain = sample(model, text, grids, GUIDED, seeds=SEEDS)
    with packed_weights(model):
        assert equal(sample(model, text, grids, GUIDED, seeds=SEEDS).bits, plain.bits)
    calls = []
    for name in watched:
        model.get_submodule(name).register_forward_hook(lambda *_, name=name: calls.append(name))
    with packed_weights(model):
        assert equal(sample(model, text, grids, GUIDED, seeds=SEEDS).bits, plain.bits)
    assert set(calls) == set(watched)
    tuned = get_peft_model(model, LoraConfig(r=2, target_modules=linears, init_lora_weights=False))
    adapted = sample(model, text, grids, GUIDED, seeds=SEEDS)
    with packed_weights(tuned):
        assert equal(sample(model, text, grids, GUIDED, seeds=SEEDS).bits, adapted.bits)
    assert not equal(adapted.bits, plain.bits)


def test_what_sampling_returns_or_shows_to_a_hook_may_be_saved_for_gradients(model, text, grids):
    kept = [*_tensors(model, text, grids)]

    def keep(module, args, output):
        kept.append(args[0])

    for part in (model.blocks[1], model.head_nm):
        handle = part.register_forward_hook(keep)
        kept += _tensors(model, text, grids)
        handle.remove()
    handles = []

    def watch_from_the_second(step):
        if step.index == 1:
            handles.append(model.blocks[1].register_forward_hook(keep))

    before = len(kept)
    kept += _tensors(model, text, grids, on_scale=watch_from_the_second)
    handles[0].remove()
    assert len(kept) - before == len(grids) - 1 + len(_tensors(model, text, grids))
    factor = torch.ones((), requires_grad=True)
    sum((one * factor).sum() for one in kept).backward()
    assert torch.allclose(factor.grad, sum(one.sum() for one in kept))


@pytest.mark.parametrize("before", [False, True])
def test_training_under_the_autocast_that_sampled_has_the_same_gradients(model, inputs, text, grids, before):
    with torch.autocast("cpu", torch.bfloat16):
        if before:
            sample(model, text, grids, GUIDED, seeds=SEEDS)
        margins(model(inputs, text, grids)).square().mean().backward()
    ours = model.blocks[0].ca.mat_q.weight.grad.clone()
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        margins(model(inputs, text, grids)).square().mean().backward()
    assert ours.abs().max() > 0 and torch.equal(ours, model.blocks[0].ca.mat_q.weight.grad)


def _tensors(model, text, grids, **options):
    results = list(sample_scales(model, text, grids, replace(GUIDED, **options), noise=seeded_noise(SEEDS)))
    return [one for result in results for one in (result.logits, result.summed, result.inputs) if one is not None]


def test_text_keys_are_computed_once_per_block(model, text, grids):
    calls = []
    model.blocks[0].ca.mat_kv.register_forward_hook(lambda *_: calls.append(1))
    sample(model, text, grids, GUIDED, seeds=SEEDS)
    assert len(calls) == 1


def test_patchified_tokens_unfold_to_a_finer_grid_and_feed_back(config, text, grids):
    from Infinity import Infinity

    model = Infinity(replace(config, bits=8), seed=0).eval()
    results = list(sample_scales(model, text, grids, replace(GUIDED, patchify=2), noise=seeded_noise(SEEDS)))
    assert [tuple(result.bits.shape) for result in results] == [(3, 2 * h, 2 * w, 2) for h, w in grids.grids]
    inputs = teacher_inputs([result.bits for result in results], grids, patchify=2)
    cached = torch.cat([result.logits[:3] for result in results], dim=1)
    assert torch.allclose(margins(model(inputs, text, grids)), margins(cached), atol=2e-5)


def test_bits_follow_their_probability_top_p_and_top_k():
    value = torch.full((1, 20_000, 1), 1.0)
    drawn = choose_bits(value, seeded_noise([0]), 0)
    assert abs(drawn.float().mean() - torch.sigmoid(torch.tensor(1.0))) < 0.01
    assert choose_bits(value, seeded_noise([0]), 0, top_p=0.7).all()  # 0.27 <= 1 - 0.7
    assert not choose_bits(value, seeded_noise([0]), 0, top_p=0.75).all()
    assert choose_bits(value, seeded_noise([0]), 0, top_k=1).all()


def test_wrong_numbers_of_seeds_prompts_and_scales_are_refused(model, text, grids):
    with pytest.raises(ValueError, match="2 seeds for 3 prompts"):
        sample(model, text, grids, GUIDED, seeds=[1, 2])
    with pytest.raises(ValueError, match="every text needs 3"):
        sample(model, text, grids, GUIDED, seeds=SEEDS, negative=text.select([0]))
    with pytest.raises(ValueError, match="guidance lists 2 scales"):
        sample(model, text, grids, Sampling(guidance=[2.0, 3.0]), seeds=SEEDS)
