import math

import pytest
import torch

from Infinity import (
    Schedule,
    bit_accuracy,
    bits_to_tokens,
    bitwise_loss,
    draw_flips,
    self_correct,
    teacher_inputs,
    tokenizer_loss,
)
from Infinity.loss import entropy_penalty, scale_weights
from Infinity.quantizer import binarize, codes_of, quantize, sum_codes, tokens_to_bits


@pytest.fixture
def features(grids) -> torch.Tensor:
    return torch.randn(2, 6, *grids.grids[-1], generator=torch.Generator().manual_seed(0))


def test_codes_lie_on_the_sphere_and_zero_gives_bit_zero():
    unit, code, bits = binarize(torch.tensor([3.0, -1.0, 0.0, 2.0]).view(1, 4, 1, 1))
    assert bits.flatten().tolist() == [True, False, False, True]
    assert torch.allclose(code.flatten(), torch.tensor([0.5, -0.5, -0.5, 0.5]))
    assert torch.allclose(codes_of(bits), code) and torch.allclose(unit.norm(dim=1), torch.ones(()))


def test_gradients_pass_straight_through_the_bits():
    x = torch.randn(1, 4, 2, 2, requires_grad=True)
    unit, code, _ = binarize(x)
    (through,) = torch.autograd.grad((code * torch.arange(16.0).view(1, 4, 2, 2)).sum(), x, retain_graph=True)
    (direct,) = torch.autograd.grad((unit * torch.arange(16.0).view(1, 4, 2, 2)).sum(), x)
    assert torch.equal(through, direct) and bool(through.any())


def test_summed_codes_follow_from_the_bits_and_more_scales_come_nearer(features, grids):
    result = quantize(features, grids.grids)
    assert torch.allclose(result.summed, sum_codes(result.bits, grids.grids[-1]), atol=1e-6)
    unit = features / features.norm(dim=1, keepdim=True)
    errors = [(sum_codes(result.bits[:n], grids.grids[-1]) - unit).norm() for n in (1, 2, 3, 4)]
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize("patchify", [1, 2])
def test_tokens_and_bits_are_inverse(patchify):
    bits = torch.rand(2, 3 * patchify, 5 * patchify, 4, generator=torch.Generator().manual_seed(0)) > 0.5
    tokens = bits_to_tokens(bits, patchify)
    assert tokens.shape == (2, 15, 4 * patchify**2)
    assert torch.equal(tokens_to_bits(tokens, (3, 5), patchify), bits)
    if patchify == 2:  # channel = d 4 + dy 2 + dx
        assert torch.equal(tokens[:, 0, 4 * 3 + 2 * 1 + 0], bits[:, 1, 0, 3])


@pytest.mark.parametrize("patchify", [1, 2])
def test_self_correction_without_flips_is_plain_quantisation(patchify):
    grids = Schedule.of(1, 2, 4)
    features = torch.randn(2, 3, *grids.finer(patchify)[-1], generator=torch.Generator().manual_seed(0))
    plain = quantize(features, grids.finer(patchify))
    corrected = self_correct(features, grids, patchify=patchify)
    labels = torch.cat([bits_to_tokens(bits, patchify) for bits in plain.bits], dim=1)
    assert torch.equal(corrected.labels.bool(), labels)
    assert torch.allclose(corrected.inputs, teacher_inputs(plain.bits, grids, patchify), atol=1e-6)


def test_labels_after_a_flip_repair_it(features, grids):
    flips = [torch.zeros(2, *grids.grids[0], 6, dtype=torch.bool)]
    flips[0][0] = True
    plain, flipped = self_correct(features, grids), self_correct(features, grids, flips)
    assert torch.equal(flipped.labels[:, 0], plain.labels[:, 0])
    assert torch.equal(flipped.fed_back[0][0], ~plain.fed_back[0][0])
    assert torch.equal(flipped.labels[1], plain.labels[1])
    assert not torch.equal(flipped.labels[0, 1:], plain.labels[0, 1:])
    unit = features / features.norm(dim=1, keepdim=True)
    ignored = sum_codes([flipped.fed_back[0], *plain.fed_back[1:]], grids.grids[-1])
    repaired = sum_codes(flipped.fed_back, grids.grids[-1])
    assert (repaired - unit)[0].norm() < (ignored - unit)[0].norm()


def test_flips_follow_their_generator_strength_and_number_of_scales():
    grids = Schedule.of(1, 64, 64)

    def draw(strength: float, scales: int | None = None) -> list[torch.Tensor]:
        return draw_flips(grids, (2, 8), torch.Generator().manual_seed(3), strength=strength, scales=scales)

    assert all(torch.equal(a, b) for a, b in zip(draw(0.3), draw(0.3), strict=True))
    assert not any(flip.any() for flip in draw(0.0)) and len(draw(0.3, scales=2)) == 2
    shares = torch.tensor([float(flip.float().mean()) for flip in draw(0.3)[1:]])
    assert (shares <= 0.31).all() and not torch.isclose(shares[0], shares[1], atol=1e-3)
    with pytest.raises(ValueError, match="strength"):
        draw(1.5)


def test_the_loss_is_two_class_cross_entropy(grids):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, grids.tokens, 6, 2, generator=generator)
    labels = torch.randint(2, (2, grids.tokens, 6), generator=generator)
    for smoothing in (0.0, 0.1):
        reference = torch.nn.functional.cross_entropy(logits.flatten(0, 2), labels.flatten(), label_smoothing=smoothing)
        ours = bitwise_loss(logits[..., 1] - logits[..., 0], labels, grids, label_smoothing=smoothing)
        assert torch.allclose(ours, reference, atol=1e-6)


def test_reweighting_gives_scales_weight_by_the_root_of_their_area():
    weights = scale_weights(Schedule.of(1, 2, 4), reweight=True)
    total = 4 * 1 + 2 * 4 + 1 * 16
    assert torch.allclose(weights[[0, 1, 5]] * total, torch.tensor([4.0, 2.0, 1.0]))
    assert torch.allclose(weights.sum(), torch.ones(()))


def test_accuracy_is_counted_per_scale():
    grids = Schedule.of(1, 2)
    margins = torch.tensor([[1.0], [1.0], [-1.0], [-1.0], [-1.0]])[None]
    labels = torch.tensor([[1], [0], [0], [0], [1]])[None]
    assert bit_accuracy(margins, labels, grids).tolist() == [1.0, 0.5]


def test_the_entropy_penalty_prefers_confident_and_evenly_used_bits():
    even = torch.tensor([1.0, -1.0]).view(2, 1, 1, 1)
    assert math.isclose(float(entropy_penalty(even)), -math.log(2), abs_tol=1e-5)
    assert math.isclose(float(entropy_penalty(torch.ones(2, 1, 1, 1))), 0.0, abs_tol=1e-5)
    assert math.isclose(float(entropy_penalty(torch.zeros(2, 1, 1, 1))), 0.0, abs_tol=1e-5)


def test_the_tokenizer_learns_to_reconstruct_and_every_parameter_gets_a_gradient(tokenizer):
    grids = Schedule.of(1, 2, 4)
    image = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    optimizer = torch.optim.Adam(tokenizer.parameters(), lr=3e-3)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        reconstruction, quantized = tokenizer(image, grids)
        loss = tokenizer_loss(reconstruction, image, quantized)
        loss.backward()
        assert all(bool(parameter.grad.any()) for parameter in tokenizer.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_encode_and_decode_agree_with_each_other_and_with_the_grid(tokenizer):
    grids = Schedule.of(1, 2, 4)
    image = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        quantized = tokenizer.encode(image, grids)
        assert torch.allclose(
            tokenizer.decode(quantized.summed), tokenizer.decode_bits(quantized.bits, grids), atol=1e-5
        )
        assert tokenizer.decode(50 * quantized.summed).abs().max() <= 1
    with pytest.raises(ValueError, match="4 x 4 grid, but the schedule ends at 8 x 8"):
        tokenizer.encode(image, Schedule.of(1, 8))
